/* keras_tagger player, Apache-2.0. Sources: e1fe7870308ef1c1c6e14e3377c480a6715781665126b876375b4298f5688831 */
function h(r,t={},...e){let s=document.createElement(r);for(let[o,i]of Object.entries(t))i==null||i===!1||(o==="class"?s.className=i:o.startsWith("on")?s.addEventListener(o.slice(2),i):o in s&&typeof i!="string"?s[o]=i:s.setAttribute(o,i===!0?"":i));return s.append(...e.flat().filter(o=>o!=null&&o!==!1)),s}function B(r){let t=document.createElementNS("http://www.w3.org/2000/svg","svg");t.setAttribute("viewBox","0 0 16 16"),t.setAttribute("aria-hidden","true");let e=document.createElementNS("http://www.w3.org/2000/svg","path");return e.setAttribute("d",r),t.append(e),t}var z={play:"M4 2.5v11l9.5-5.5z",pause:"M4 2.5h3v11H4zM9 2.5h3v11H9z"};var F=`:host {
  display: block;
}

.player {
  --theme: light;
  --bg: #ffffff;
  --raised: #f5f7f9;
  --ink: #171b21;
  --muted: #55606d;
  --line: #d9dfe5;
  --accent: #0b5fc4;
  --on-accent: #ffffff;
  --wave: #2f6f8f;
  --wave-muted: #c3cdd6;
  --head: #d1004b;
  --warn: #7a4b00;
  --warn-bg: #fff4dc;
  color-scheme: light;
  --names: clamp(108px, 24vw, 220px);
  position: relative;
  box-sizing: border-box;
  max-width: 2000px;
  margin: 0 auto;
  padding: 12px 16px 20px;
  background: var(--bg);
  color: var(--ink);
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  container-type: inline-size;
}

@media (prefers-color-scheme: dark) {
  .player:not([data-theme="light"]) {
    --theme: dark;
    --bg: #0f1216;
    --raised: #191e25;
    --ink: #e9edf2;
    --muted: #9ba7b5;
    --line: #2b323b;
    --accent: #7ab8ff;
    --on-accent: #06131f;
    --wave: #6fb6cf;
    --wave-muted: #38424d;
    --head: #ff5c8a;
    --warn: #ffd591;
    --warn-bg: #33270f;
    color-scheme: dark;
  }
}

.player[data-theme="dark"] {
  --theme: dark;
  --bg: #0f1216;
  --raised: #191e25;
  --ink: #e9edf2;
  --muted: #9ba7b5;
  --line: #2b323b;
  --accent: #7ab8ff;
  --on-accent: #06131f;
  --wave: #6fb6cf;
  --wave-muted: #38424d;
  --head: #ff5c8a;
  --warn: #ffd591;
  --warn-bg: #33270f;
  color-scheme: dark;
}

* {
  box-sizing: border-box;
}

[hidden] {
  display: none !important;
}

:focus-visible {
  outline: 2px solid var(--accent);
  outline-offset: 2px;
}

h2,
h3,
p,
dl {
  margin: 0;
}

header {
  display: flex;
  flex-wrap: wrap;
  gap: 2px 14px;
  align-items: baseline;
  padding-bottom: 8px;
}

h2 {
  font-size: 20px;
  line-height: 1.25;
  overflow-wrap: anywhere;
}

header p,
.meaning,
.status,
.about {
  color: var(--muted);
}

.warning {
  margin-bottom: 8px;
  padding: 6px 10px;
  border-radius: 6px;
  background: var(--warn-bg);
  color: var(--warn);
}

.hidden {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
}

.sticky {
  position: sticky;
  top: 0;
  z-index: 3;
  background: var(--bg);
  padding: 4px 0 6px;
}

.bar {
  display: flex;
  flex-wrap: wrap;
  gap: 8px;
  align-items: center;
}

button,
select,
input[type="search"] {
  min-height: 32px;
  padding: 3px 10px;
  border: 1px solid var(--line);
  border-radius: 7px;
  background: var(--raised);
  color: inherit;
  font: inherit;
}

button {
  cursor: pointer;
}

button:hover:not(:disabled) {
  border-color: var(--muted);
}

button[aria-pressed="true"] {
  background: var(--accent);
  border-color: var(--accent);
  color: var(--on-accent);
}

.play {
  width: 40px;
  height: 40px;
  padding: 0;
  border: 0;
  border-radius: 50%;
  background: var(--accent);
  color: var(--on-accent);
}

.play:disabled {
  opacity: 0.4;
  cursor: default;
}

.play svg {
  width: 18px;
  height: 18px;
  margin: 0 auto;
  display: block;
  fill: currentcolor;
}

.clock {
  min-width: 112px;
  font-variant-numeric: tabular-nums;
}

.solo {
  display: flex;
  gap: 6px;
  align-items: center;
}

.label {
  color: var(--muted);
}

.group {
  display: flex;
}

.group button {
  border-radius: 0;
  margin-left: -1px;
}

.group button:first-child {
  border-radius: 7px 0 0 7px;
  margin-left: 0;
}

.group button:last-child {
  border-radius: 0 7px 7px 0;
}

.group button:focus-visible {
  z-index: 1;
}

.plain {
  min-width: 32px;
  padding: 3px;
}

input[type="search"] {
  flex: 1 1 120px;
  min-width: 96px;
  max-width: 260px;
  margin-left: auto;
}

.status {
  min-height: 20px;
  margin-top: 6px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}

.status strong {
  color: var(--ink);
}

.stage {
  position: relative;
}

.lane,
.body {
  display: grid;
  grid-template-columns: var(--names) minmax(0, 1fr);
}

.lane {
  padding-bottom: 10px;
}

.lane.top {
  padding-bottom: 2px;
}

.body,
.heading,
.meaning {
  grid-column: 1 / -1;
}

.heading {
  display: flex;
  flex-wrap: wrap;
  gap: 4px 12px;
  align-items: center;
  justify-content: space-between;
  padding: 4px 0;
  border-top: 1px solid var(--line);
}

/* The playhead does not cross text. */
.heading,
.meaning {
  position: relative;
  z-index: 2;
  background: var(--bg);
}

h3 {
  font-size: 14px;
  font-weight: 600;
}

.toggle {
  min-height: 28px;
  padding: 2px 8px 2px 0;
  border: 0;
  background: none;
  font-weight: 600;
}

.toggle::before {
  content: "▸";
  display: inline-block;
  width: 16px;
  color: var(--muted);
}

.toggle[aria-expanded="true"]::before {
  content: "▾";
}

.meaning {
  padding-bottom: 6px;
  font-size: 13px;
}

.controls {
  display: flex;
  flex-wrap: wrap;
  gap: 4px 12px;
  align-items: center;
  color: var(--muted);
  font-size: 13px;
}

.controls select {
  max-width: 180px;
}

.controls input[type="range"] {
  width: 90px;
  accent-color: var(--accent);
}

.legend {
  display: inline-flex;
  gap: 6px;
  align-items: center;
  font-variant-numeric: tabular-nums;
}

.legend canvas {
  width: 96px;
  height: 10px;
  border: 1px solid var(--line);
}

.name {
  position: relative;
  min-width: 0;
  padding-right: 10px;
  color: var(--muted);
  font-size: 13px;
}

.unit {
  position: absolute;
  left: 0;
  top: 0;
}

.axis {
  position: absolute;
  inset: 0 8px 0 0;
}

.axis span {
  position: absolute;
  right: 0;
  transform: translateY(50%);
  line-height: 1;
  font-size: 11px;
  font-variant-numeric: tabular-nums;
}

.plot {
  min-width: 0;
}

canvas {
  display: block;
  width: 100%;
  touch-action: pan-y;
}

.plot canvas {
  cursor: crosshair;
}

.lane.top canvas {
  cursor: ew-resize;
}

.rows {
  color: var(--ink);
}

.row {
  display: flex;
  gap: 6px;
  align-items: center;
  height: 20px;
  padding: 0 2px 0 4px;
  border-radius: 4px;
  cursor: pointer;
  line-height: 20px;
}

.row:hover {
  background: var(--raised);
}

.row[aria-selected="true"] {
  background: var(--accent);
  color: var(--on-accent);
}

.row:focus-visible {
  outline-offset: -2px;
  outline-color: var(--ink);
}

.row .text {
  flex: 1;
  min-width: 0;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.present .text {
  font-weight: 650;
}

.unheard .text {
  font-style: italic;
  opacity: 0.75;
}

.meter {
  position: relative;
  flex: none;
  width: 48px;
  height: 6px;
  border-radius: 3px;
  background: linear-gradient(currentcolor, currentcolor) no-repeat 0 / calc(100% * var(--score)) 100%;
  box-shadow: inset 0 0 0 1px currentcolor;
  opacity: 0.75;
}

.with-threshold::after {
  content: "";
  position: absolute;
  left: calc(100% * var(--threshold) - 1px);
  top: -3px;
  width: 2px;
  height: 12px;
  background: currentcolor;
}

.number {
  flex: none;
  font-variant-numeric: tabular-nums;
}

.more {
  grid-column: 1;
  justify-self: start;
  min-height: 26px;
  margin-top: 4px;
  padding: 1px 8px;
  font-size: 12px;
}

.over {
  position: absolute;
  inset: 0 0 0 var(--names);
  z-index: 1;
  overflow: hidden;
  pointer-events: none;
}

.head,
.hairline {
  position: absolute;
  top: 0;
  bottom: 0;
  left: -1px;
  width: 2px;
  background: var(--head);
  box-shadow: 0 0 0 1px color-mix(in srgb, var(--bg) 70%, transparent);
  will-change: transform;
}

.hairline {
  width: 1px;
  background: var(--ink);
  opacity: 0.45;
  box-shadow: none;
}

.tip {
  position: absolute;
  top: 0;
  left: 0;
  z-index: 4;
  display: none;
  max-width: min(340px, 90%);
  padding: 6px 9px;
  border: 1px solid var(--line);
  border-radius: 7px;
  background: var(--raised);
  box-shadow: 0 4px 16px rgb(0 0 0 / 25%);
  font-size: 12.5px;
  pointer-events: none;
}

.tip strong {
  display: block;
  font-variant-numeric: tabular-nums;
}

.tip span {
  color: var(--muted);
}

.about {
  margin-top: 6px;
  border-top: 1px solid var(--line);
  padding-top: 8px;
  font-size: 13px;
}

.about summary {
  cursor: pointer;
}

dl {
  display: grid;
  grid-template-columns: max-content minmax(0, 1fr);
  gap: 3px 14px;
  padding: 8px 0;
}

dt {
  color: var(--muted);
}

dd {
  margin: 0;
  overflow-wrap: anywhere;
  color: var(--ink);
}

dialog {
  max-width: 520px;
  padding: 18px 22px;
  border: 1px solid var(--line);
  border-radius: 10px;
  background: var(--bg);
  color: var(--ink);
}

dialog::backdrop {
  background: rgb(0 0 0 / 45%);
}

kbd {
  font: 12px ui-monospace, monospace;
  padding: 1px 5px;
  border: 1px solid var(--line);
  border-radius: 4px;
  background: var(--raised);
}

@container (max-width: 560px) {
  .meter {
    display: none;
  }

  .row {
    font-size: 12px;
    gap: 4px;
  }

  input[type="search"] {
    max-width: none;
  }
}

@media (prefers-reduced-motion: no-preference) {
  button {
    transition: background-color 120ms, border-color 120ms;
  }
}

/* The table of files. */
.index h1 {
  margin: 0;
  font-size: 22px;
}

.scroll {
  margin-top: 12px;
  overflow-x: auto;
}

table {
  width: 100%;
  border-collapse: collapse;
}

th,
td {
  padding: 6px 14px 6px 0;
  border-bottom: 1px solid var(--line);
  text-align: left;
  font-weight: 400;
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}

thead button {
  min-height: 26px;
  border: 0;
  background: none;
  font-weight: 600;
}

[aria-sort="ascending"] button::after {
  content: " ▴";
}

[aria-sort="descending"] button::after {
  content: " ▾";
}

a {
  color: var(--accent);
}

.bar-of-score {
  display: inline-block;
  width: 80px;
  height: 10px;
  margin-right: 8px;
  background: linear-gradient(var(--wave), var(--wave)) no-repeat 0 / calc(100% * var(--score)) 100%;
  box-shadow: inset 0 0 0 1px var(--line);
}
`;var N=class{constructor(t){this.seconds=t,this.start=0,this.span=t}get end(){return this.start+this.span}set(t,e=this.span){this.span=Math.min(Math.max(e,Math.min(.25,this.seconds)),this.seconds),this.start=Math.min(Math.max(t,0),this.seconds-this.span)}zoom(t,e){let s=(e-this.start)/this.span,o=Math.min(Math.max(this.span*t,Math.min(.25,this.seconds)),this.seconds);this.set(e-s*o,o)}x(t,e){return(t-this.start)/this.span*e}seconds_at(t,e){return this.start+t/e*this.span}ticks(t,e=80){let s=this.span/t*e,i=[.01,.02,.05,.1,.2,.5,1,2,5,10,15,30,60,120,300,600,1800,3600].find(a=>a>=s)??3600,n=[];for(let a=Math.ceil(this.start/i);a*i<=this.end+1e-9;a++)n.push(a*i);return{places:n,step:i,digits:i>=1?0:i>=.1?1:2}}};function x(r,t=1){let e=10**t,s=Math.round(r*e)/e,o=Math.floor(s/60),i=(s-60*o).toFixed(t).padStart(t?t+3:2,"0");return`${o}:${i}`}var wt=3;function et(r,t){let e=r.attachShadow({mode:"open"}),s=new CSSStyleSheet;s.replaceSync(F),e.adoptedStyleSheets=[s];let o=[...new Set(t.flatMap(u=>Object.keys(u.scores)))].sort((u,_)=>u.localeCompare(_)),i=u=>Object.entries(u.scores).sort((_,g)=>g[1]-_[1]).slice(0,wt),n=new Map(o.map(u=>[u,t.reduce((_,g)=>_+(g.scores[u]??0),0)])),a=o.reduce((u,_)=>n.get(_)>n.get(u)?_:u,o[0]),l={key:"score",up:!1},c=h("select",{id:"tag",onchange:u=>{a=u.target.value,l={key:"score",up:!1},m()}},o.map(u=>h("option",{value:u,selected:u===a},u))),d=[["name","file",u=>u.name],["seconds","length",u=>u.seconds],["score","score",u=>u.scores[a]??-1],["best","best tags",null]],f=d.map(([u,_,g])=>h("th",{scope:"col"},g?h("button",{type:"button",class:"plain",onclick:()=>{l={key:u,up:l.key===u?!l.up:u!=="score"},m()}},_):_)),p=h("tbody");function m(){let u=d.find(([w])=>w===l.key)[2],_=(w,b)=>typeof u(w)=="string"?u(w).localeCompare(u(b)):u(w)-u(b),g=[...t].sort((w,b)=>l.up?_(w,b):_(b,w));d.forEach(([w,b],k)=>{w!==l.key?f[k].removeAttribute("aria-sort"):f[k].setAttribute("aria-sort",l.up?"ascending":"descending"),w==="score"?f[k].firstChild.textContent=`score of ${a}`:f[k].firstChild.nodeName==="BUTTON"&&(f[k].firstChild.textContent=b)}),p.replaceChildren(...g.map(w=>{let b=w.scores[a],k=h("span",{class:"bar-of-score","aria-hidden":"true"});return k.style.setProperty("--score",String(b??0)),h("tr",{},h("th",{scope:"row"},h("a",{href:w.href},w.name)),h("td",{},x(w.seconds,0)),h("td",{},k,b===void 0?"–":b.toFixed(2)),h("td",{},i(w).map(([mt,_t])=>`${mt} ${_t.toFixed(2)}`).join(", ")))}))}m(),e.append(h("section",{class:"player index"},h("header",{},h("h1",{},document.title),h("p",{},`${t.length} files`)),h("div",{class:"bar"},h("label",{for:"tag"},"Sort by tag"),c),h("div",{class:"scroll",tabindex:"0",role:"region","aria-label":"Files"},h("table",{},h("thead",{},h("tr",{},f)),p))))}function O(r){let t=atob(r),e=new Uint8Array(t.length);for(let s=0;s<e.length;s++)e[s]=t.charCodeAt(s);return e}var M=class{constructor(t,{rows:e,columns:s,depth:o=1,step:i,first:n=0,labels:a=[]}){let l=O(t.data),c=t.dtype==="uint16"?new Uint16Array(l.buffer):l;this.rows=e,this.columns=s,this.depth=o,this.step=i,this.first=n,this.labels=a,this.steps=t.dtype==="uint16"?65535:255,[this.low,this.high]=t.range,this.levels=[{codes:c,columns:s}]}level(t){for(;this.levels.length<=t;){let{codes:e,columns:s}=this.levels[this.levels.length-1];if(s<2)return this.levels[this.levels.length-1];let o=Math.ceil(s/2),{rows:i,depth:n}=this,a=new e.constructor(i*o*n);for(let l=0;l<i;l++)for(let c=0;c<o;c++){let d=(l*s+2*c)*n,f=2*c+1<s?d+n:d,p=(l*o+c)*n;for(let m=0;m<n;m++)a[p+m]=e[d+m]+e[f+m]+1>>1}this.levels.push({codes:a,columns:o})}return this.levels[t]}column(t){return Math.floor((t-this.first)/this.step)}value(t,e,s=0){if(e<0||e>=this.columns)return NaN;let o=this.levels[0].codes[(t*this.columns+e)*this.depth+s];return this.low+o/this.steps*(this.high-this.low)}curve(t){let{columns:e,depth:s}=this,o=new Float32Array(e);for(let i=0;i<e;i++){let n=0;for(let a=0;a<s;a++)n+=this.value(t,i,a);o[i]=n/s}return o}};function U(r,t,e,s){let o=[...r].sort((n,a)=>a-n)[Math.max(Math.round(t*r.length),1)-1],i=[];for(let n=0;n<r.length;n++){if(!(r[n]>=o&&r[n]>0))continue;let a=i[i.length-1],[l,c]=[s+n*e,s+(n+1)*e];a&&Math.abs(a.end-l)<e/2?(a.end=c,a.weight+=r[n]):i.push({start:l,end:c,weight:r[n]})}return i}function st(r,t,e,s,o=5,i=1){let n=U(r,.1,t,e).sort((l,c)=>c.weight-l.weight).slice(0,o).map(({start:l,end:c})=>{let d=Math.max(i-(c-l),0)/2;return[Math.max(l-d,0),Math.min(c+d,s)]}).sort((l,c)=>l[0]-c[0]),a=[];for(let[l,c]of n){let d=a[a.length-1];d&&l<=d[1]?d[1]=Math.max(d[1],c):a.push([l,c])}return a}var D=.008,y=null,$=null;function bt(){return y??=new AudioContext,y}async function xt(r){if(r.startsWith("data:"))return O(r.slice(r.indexOf(",")+1)).buffer;let t=await fetch(r);if(!t.ok)throw new Error(`${t.status} ${t.statusText}`);return t.arrayBuffer()}var q=class{constructor(t,e,s){this.url=t,this.seconds=e,this.segments=[],this._changed=s,this._buffers=new Map,this._track=t,this._envelope=null,this._offset=0,this._source=null,this._ticket=0}get playing(){return this._source!==null}get time(){if(!this._source)return this._offset;let t=y.outputLatency||y.baseLatency||0,e=y.currentTime-this._started-t;return Math.min(this._offset+Math.max(e,0),this.seconds)}async play(){if(this.playing)return;let t=++this._ticket,e=this._track,s=await this._decoded(e),{state:o}=bt();if(o!=="running"&&await y.resume(),!(t!==this._ticket||this.playing)){if(e!==this._track)return this.play();$&&$!==this&&$.pause(),$=this,this._offset>=this.seconds-.02&&(this._offset=0),this._start(s),this._changed()}}pause(){this._ticket++,this.playing&&(this._offset=this.time,this._stop(),this._changed())}seek(t){let e=this.playing;e&&this._stop(),this._offset=Math.min(Math.max(t,0),this.seconds),e&&this._start(this._buffer)}async useTrack(t=this.url){if(t===this._track||(this._track=t,!this.playing))return;let e=await this._decoded(t);this._track!==t||!this.playing||(this._offset=this.time,this._stop(),this._start(e))}useEnvelope(t,e=!1){this._envelope=t&&{kept:t,inverted:e},this.playing&&this._schedule()}useSegments(t){this.segments=t,t.length?this.seek(t[0][0]):this.playing&&this._watch()}destroy(){this.pause(),$===this&&($=null),this._buffers.clear()}gainAt(t){if(!this._envelope)return 1;let{kept:e,inverted:s}=this._envelope;return e.some(({start:o,end:i})=>t>=o&&t<i)!==s?1:0}async _decoded(t){if(!this._buffers.has(t)){let e=new OfflineAudioContext(1,1,24e3);this._buffers.set(t,await e.decodeAudioData(await xt(t)))}return this._buffers.get(t)}_start(t){this._buffer=t;let e=y.createBufferSource();e.buffer=t,this._gain=y.createGain(),e.connect(this._gain).connect(y.destination),e.onended=()=>{this._source===e&&(this._stop(),this._offset=this.seconds,this._changed())},this._started=y.currentTime,e.start(this._started,this._offset),this._source=e,this._schedule(),this._watch()}_stop(){clearTimeout(this._timer);let t=this._source;this._source=null,t.onended=null,t.stop(),t.disconnect(),this._gain.disconnect()}_schedule(){let{gain:t}=this._gain,e=y.currentTime,s=this._offset+(e-this._started);if(t.cancelScheduledValues(0),t.setValueAtTime(this.gainAt(s),e),!this._envelope)return;let{kept:o,inverted:i}=this._envelope;for(let{start:n,end:a}of o)for(let[l,c]of[[n,1],[a,0]]){let d=e+l-s;d<=e+D||(t.setValueAtTime(i?c:1-c,d-D/2),t.linearRampToValueAtTime(i?1-c:c,d+D/2))}}_watch(){if(clearTimeout(this._timer),!this.segments.length)return;let t=this.time,e=this.segments.findIndex(([i,n])=>t>=i-.05&&t<n-.01);if(e<0){let i=this.segments.find(([n])=>n>t)??this.segments[0];this._timer=setTimeout(()=>this.seek(i[0]),0);return}let s=this.segments[(e+1)%this.segments.length],o=(this.segments[e][1]-t)*1e3;this._timer=setTimeout(()=>this.seek(s[0]),Math.max(o,20))}},L=class{constructor(t,e=null){this.seconds=t,this.url=null,this._clock=e,this._time=0}get playing(){return this._clock?this._clock.playing:!1}get time(){return this._clock?Math.min(this._clock.time,this.seconds):this._time}async play(){await this._clock?.play()}pause(){this._clock?.pause()}seek(t){this._clock?this._clock.seek(t):this._time=Math.min(Math.max(t,0),this.seconds)}useSegments(){}useEnvelope(){}async useTrack(){}destroy(){}};var vt="440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",yt="000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf",kt={dark:{sequential:vt,spectrum:yt,grey:"0c0f13 1a1f25 2b3139 444b55 5f6873 7d8793",diverging:"8ecbff 4f9fe6 2c6bab 23394f 262a30 4d3a22 a3671b e8963a ffd08a"},light:{sequential:"f1f4f6 c5e4da 8ccdbc 4fb0a5 268f92 25708c 2f4f82 371d5c",spectrum:"ffffff eceef2 d0d5dd a7afbd 77819a 4a5178 2b2456 150a2e",grey:"ffffff f1f2f4 e0e3e7 c9ced5 aeb5be 8e97a2",diverging:"08306b 1c62ab 5b9bd5 b3d0ec eef0f2 f6d5ab e69a45 b8650b 6b3600"}},St={dark:[79,159,230],light:[28,98,171]},Mt={dark:[255,176,80],light:[190,90,0]},ot=(r,t,e,s=255)=>(s<<24|e<<16|t<<8|r)>>>0;function At(r){return r.split(" ").map(t=>[0,2,4].map(e=>parseInt(t.slice(e,e+2),16)))}var j=new Map;function T(r,t){let e=`${r} ${t}`;if(!j.has(e)){let s=At(kt[r][t]),o=new Uint32Array(256);for(let i=0;i<256;i++){let n=i/255*(s.length-1),a=Math.min(Math.floor(n),s.length-2),l=s[a].map((c,d)=>Math.round(c+(n-a)*(s[a+1][d]-c)));o[i]=ot(...l)}j.set(e,o)}return j.get(e)}function K(r,t){let e=new Uint32Array(256);for(let s=0;s<256;s++){let o=t?s/255*2-1:s/255,i=o<0?St[r]:Mt[r];e[s]=ot(...i,Math.round(255*Math.min(Math.abs(o),1)**.6))}return e}function C(r,t,e){let s=new Uint32Array(r.steps+1);for(let o=0;o<=r.steps;o++){let i=e(r.low+o/r.steps*(r.high-r.low));s[o]=t[Math.round(255*Math.min(Math.max(i,0),1))]}return s}var W=(r,t)=>e=>.5+Math.log(Math.max(e,1e-9)/r)/(2*Math.log(t));function R(r,t){if(r<0){let s=Math.max(-r,t)||1;return{place:o=>.5+o/(2*s),low:-s,high:s,signed:!0}}let e=t||1;return{place:s=>s/e,low:0,high:e,signed:!1}}var E=document.createElement("canvas");function A(r,t,e){let s=Math.min(window.devicePixelRatio||1,2),[o,i]=[Math.max(Math.round(t*s),1),Math.max(Math.round(e*s),1)];r.width!==o&&(r.width=o),r.height!==i&&(r.height=i),r.style.height=`${e}px`;let n=r.getContext("2d");return n.setTransform(s,0,0,s,0,0),n.clearRect(0,0,t,e),n}function it(r,t,e){let s=Math.floor(Math.log2(t.span/e/r.step)),o=Math.min(Math.max(s,0),Math.floor(Math.log2(r.columns))),i=r.level(o),n=r.step*2**o,a=new Int32Array(e);for(let l=0;l<e;l++){let c=t.start+(l+.5)/e*t.span,d=Math.floor((c-r.first)/n);a[l]=d>=0&&d<i.columns?d:-1}return{codes:i.codes,columns:i.columns,index:a}}function J(r,t){E.width=r,E.height=t;let e=E.getContext("2d"),s=e.createImageData(r,t);return{context:e,data:s,out:new Uint32Array(s.data.buffer)}}function nt(r,t,e,s,o,i,n,a=1){let l=Math.max(Math.round(i),1),{codes:c,columns:d,index:f}=it(t,o,l),p=J(l,Math.max(e.length,1));e.forEach((m,u)=>{let _=s[u];for(let g=0;g<l;g++)f[g]>=0&&(p.out[u*l+g]=_[c[m*d+f[g]]])}),p.context.putImageData(p.data,0,0),r.imageSmoothingEnabled=!1,e.forEach((m,u)=>r.drawImage(E,0,u,l,1,0,u*n,i,n-a))}function V(r,t,e,s,o,i,n,a=1){let l=Math.max(Math.round(i),1),{codes:c,columns:d,index:f}=it(t,o,l),{depth:p}=t,m=J(l,p);for(let u=0;u<l;u++){if(f[u]<0)continue;let _=(e*d+f[u])*p;for(let g=0;g<p;g++)m.out[(p-1-g)*l+u]=s[c[_+g]]}m.context.putImageData(m.data,0,0),r.imageSmoothingEnabled=!1,r.globalAlpha=a,r.drawImage(E,0,0,i,n),r.globalAlpha=1}function Y(r,t,e,s,o,i,n=()=>!0){let a=o/2,l=Math.max(t.most,1);for(let c=0;c<s;c++){let d=Math.floor((e.start+c/s*e.span)/t.seconds),f=Math.max(Math.ceil((e.start+(c+1)/s*e.span)/t.seconds),d+1),[p,m]=[127,-127];for(let _=d;_<Math.min(f,t.low.length);_++)t.low[_]<p&&(p=t.low[_]),t.high[_]>m&&(m=t.high[_]);if(p>m)continue;r.fillStyle=n(e.seconds_at(c+.5,s))?i.wave:i.waveMuted;let u=a-m/l*(a-1);r.fillRect(c,u,1,Math.max(a-p/l*(a-1)-u,1))}}function at(r,t,e,s,o,i){r.font="11px system-ui, sans-serif",r.textBaseline="top";let{places:n,digits:a}=t.ticks(e);for(let l of n){let c=Math.round(t.x(l,e))+.5;r.strokeStyle=o.line,r.beginPath(),r.moveTo(c,s-6),r.lineTo(c,s),r.stroke();let d=x(l,a),f=r.measureText(d).width;r.fillStyle=o.muted,r.fillText(d,Math.min(Math.max(c-f/2,0),e-f),3)}r.fillStyle=o.accent;for(let[l,c]of i){let d=t.x(l,e);r.fillRect(d,s-4,Math.max(t.x(c,e)-d,2),4)}}function rt(r,t,e,s){let[o,i]=[96,10],n=A(r,o,i),a=J(256,1);a.out.set(t),a.context.putImageData(a.data,0,0),n.drawImage(E,0,0,o,i),e!==null&&(n.fillStyle=s,n.fillRect(e*o-.75,0,1.5,i))}var I=class{constructor(t,e,s){this.map=t,this.id=t.id,this.kind=t.kind,this.method=t.method??t.id,this.about=t.about??"",this.grid=e,this.names=s,this.shown=[],this.rowHeight=20,this.openAtFirst=!0}order(t){return this.names[this.sorted()[t]]}sorted(){return this.names.map((t,e)=>e)}curve(t){return this.grid.curve(t)}valueAt(t,e){return this.grid.value(t,this.grid.column(e))}rowAt(t){return this.shown[Math.floor(t*this.shown.length)]??null}unit(t){return v(t)}draw(t,e,s,o,i,n){let a=Math.max(this.shown.length*this.rowHeight,1),l=A(this.canvas,e,a),c=this.tables(s,i,o);nt(l,this.grid,this.shown,c,t,e,this.rowHeight);let d=n?.map===this.id?this.shown.findIndex(f=>this.names[f]===n.row):-1;d>=0&&(l.strokeStyle=o.accent,l.lineWidth=2,l.strokeRect(1,d*this.rowHeight+.5,e-2,this.rowHeight-2))}},P=class extends I{constructor(t,e,s,o){super(t,e,s);let i=n=>o.get(s[n])?.score??-1/0;this._sorted=s.map((n,a)=>a).sort((n,a)=>i(a)-i(n)||n-a),this._peaks=s.map((n,a)=>this.curve(a).reduce((l,c)=>Math.max(l,Math.abs(c)),0))}sorted(){return this._sorted}tables(t,{ownScale:e},s){let{low:o,high:i}=this.grid,n=R(o,i),a=T(t,n.signed?"diverging":"sequential");if(this.legend.set(a,e?n.signed?"−max":"0":v(n.low),e?"max":v(n.high),n.signed?.5:null,s.ink),!e){let l=C(this.grid,a,n.place);return this.shown.map(()=>l)}return this.shown.map(l=>{let c=this._peaks[l];return C(this.grid,a,R(o<0?-c:0,c).place)})}},X=class extends I{constructor(t,e){let{layers:s,heads:o}=t,i=[];for(let n=1;n<=s;n++)for(let a=1;a<=o;a++)i.push(`layer ${n}, head ${a}`);for(let n=1;n<=s;n++)i.push(o>1?`layer ${n}, mean`:`layer ${n}`);super(t,$t(e,s,o),i),this.layers=s,this.heads=o,this.openAtFirst=!0}means(){return Array.from({length:this.layers},(t,e)=>this.layers*this.heads+e)}everyHead(){return this.means().flatMap((t,e)=>[t,...Array.from({length:this.heads},(s,o)=>e*this.heads+o)])}unit(t){return`${v(t)}, ${(t/this.map.uniform).toFixed(2)} times uniform`}tables(t,{bound:e},s){let o=T(t,"diverging");this.legend.set(o,`1/${e}`,`${e} ×`,.5,s.ink,`uniform ${v(this.map.uniform)}`);let i=`${t} ${e}`;return this._key!==i&&(this._table=C(this.grid,o,W(this.map.uniform,e))),this._key=i,this.shown.map(()=>this._table)}},G=class extends I{constructor(t,e){let s=[];for(let o=1;o<=t.layers;o++)s.push(`layer ${o}, this moment`,`layer ${o}, [CLS]`);super(t,null,s),this._source=e,this._values=s.map(()=>null),this.column=0,this.step=1}point(t,e){let{map:s,_source:o}=this,i=e?.grid.columns??(o?o.rows/s.layers:0);this.column=Math.min(t,Math.max(i-1,0)),this.uniform=s.uniform??e?.map.uniform,this.step=e?.grid.step??1,this.first=e?.grid.first??0;let n=[];for(let a=0;a<s.layers;a++){let l=new Float32Array(i).fill(NaN);if(this.asked)this.asked[a].forEach((c,d)=>l[d]=c);else if(o){let c=s.starts?s.starts[this.column]:0,d=a*(o.rows/s.layers)+this.column;for(let f=0;f<o.columns&&c+f<i;f++)l[c+f]=o.value(d,f)}n.push(l,e?e.curve(e.means()[a]):new Float32Array(i).fill(NaN))}this._values=n}curve(t){return Float32Array.from(this._values[t]??[0],e=>e||0)}valueAt(t,e){return this._values[t]?.[Math.floor((e-this.first)/this.step)]??NaN}unit(t){return Number.isNaN(t)?"outside the window":`${v(t)}, ${(t/this.uniform).toFixed(2)} times uniform`}draw(t,e,s,o,i,n){let a=this._values[0]?.length??0;if(!a)return;let l=this._values,c=W(this.uniform,i.bound),d=T(s,"diverging"),f=new Uint8Array(l.length*a);l.forEach((g,w)=>g.forEach((b,k)=>{f[w*a+k]=Number.isNaN(b)?0:Math.round(1+254*Math.min(Math.max(c(b),0),1))}));let p=Object.create(M.prototype);Object.assign(p,{rows:l.length,columns:a,depth:1,step:this.step,first:this.first,steps:255}),p.levels=[{codes:f,columns:a}],this.grid=Object.assign(p,{low:0,high:1});let m=Uint32Array.from(d);m[0]=0,this.tables=()=>this.shown.map(()=>m),this.legend.set(d,`1/${i.bound}`,`${i.bound} ×`,.5,o.ink,`uniform ${v(this.uniform)}`),super.draw(t,e,s,o,i,n);let u=this.canvas.getContext("2d"),_=t.x(this.first+(this.column+.5)*this.step,e);u.fillStyle=o.ink,u.beginPath(),u.moveTo(_-5,0),u.lineTo(_+5,0),u.lineTo(_,7),u.fill()}};function lt(r,t){let e=[];for(let s of r.maps??[]){let[o,i]=[s.seconds??r.token_seconds,s.first??r.first_seconds??0],{values:n}=s;if(s.kind==="query"){let[a,l,c]=n?.shape??[s.layers,0,0],d=n&&new M(n,{rows:a*l,columns:c,step:o,first:i});e.push(new G(s,d))}else if(s.kind==="heads"){let[a,l]=n.shape;e.push(new X(s,new M(n,{rows:a,columns:l,step:o,first:i})))}else if(s.kind==="image"){let[a,l,c]=n.shape;e.push(new P(s,new M(n,{rows:a,columns:l,depth:c,step:o,first:i}),s.rows,t))}else if(s.kind==="rows"){let[a,l]=n.shape;e.push(new P(s,new M(n,{rows:a,columns:l,step:o,first:i}),s.rows,t))}}return e}function $t(r,t,e){let{columns:s}=r,{codes:o}=r.levels[0],i=new o.constructor((r.rows+t)*s);i.set(o);for(let n=0;n<t;n++)for(let a=0;a<s;a++){let l=0;for(let c=0;c<e;c++)l+=o[(n*e+c)*s+a];i[(r.rows+n)*s+a]=Math.round(l/e)}return r.rows+=t,r.levels=[{codes:i,columns:s}],r}function ht({values:r,seconds:t}){let[e,s]=r.shape;return new M(r,{rows:1,columns:e,depth:s,step:t})}function ct(r){let[t,e]=[r.low,r.high].map(o=>new Int8Array(O(o).buffer)),s=1;for(let o=0;o<t.length;o++)s=Math.max(s,e[o],-t[o]);return{seconds:r.seconds,low:t,high:e,most:s}}function dt(r,t){let e=r.length-1;if(t<r[0]||t>r[e]+1.5*(r[e]-r[e-1]))return null;if(t>r[e])return e;let s=r.findIndex(o=>o>=t);return s===0?0:s-1+(t-r[s-1])/(r[s]-r[s-1])}function Z(){let r=h("canvas",{"aria-hidden":"true"}),[t,e,s]=[h("span"),h("span"),h("span",{class:"note"})],o=h("span",{class:"legend"},t,r,e,s),i=[];return{element:o,set(n,a,l,c,d,f=""){let p=[n,a,l,c,d,f];p.every((m,u)=>m===i[u])||(i=p,rt(r,n,c,d),t.textContent=a,e.textContent=l,s.textContent=f)}}}function v(r){if(!Number.isFinite(r))return"–";let t=Math.abs(r);return t&&t<.001?r.toExponential(1).replaceAll("-","−"):String(Number(r.toPrecision(t>=100?3:2))).replace("-","−")}var pt=10,ut=[8,2,1.1],Q=[["clip","Clip","the clip as it is"],["kept","Kept","only what the selected row marks most"],["removed","Removed","the clip without what the selected row marks most"]],Tt=[1e3,4e3,2e3,500,8e3,200,100,50,16e3],Ct=13,S={overview:26,ruler:24,waveform:64,spectrogram:160},Et=[["Space","play or pause"],["← →","one second back or on; with Shift five, with Alt one column"],["Home End","the beginning, the end"],["↑ ↓","the row above or below"],["Enter or l","loop the strongest moments of the row, or stop that"],["s","solo: the clip, what the row keeps, what it removes"],["q","where the moment at the playhead looks"],["+ −","zoom in or out at the playhead; 0 shows all"],["/","search tags and methods"],["t","light, dark, or as the system"],["Esc","stop the loop and the solo, leave the search"],["?","this list"]],H=null,Nt=0;function ft(r,t,e={}){return new tt(r,t,e)}var tt=class{constructor(t,e,s){this.options=s,this._callbacks={time:[],select:[],query:[]},this._theme="auto",this._solo="clip",this._share=.25,this._opacity=.75,this._ownScale=!1,this._bounds=new Map,this._search="",this._open=new Map((s.lanes??[]).map(i=>[i,!0])),this._full=new Set,this._selected=null,this._overlay=null,this._query={on:!1,column:null,rows:null},this._loop=null,this._hover=null,this._number=++Nt,this._host=t;let o=t.shadowRoot??t.attachShadow({mode:"open"});o.replaceChildren(),H||(H=new CSSStyleSheet,H.replaceSync(F)),o.adoptedStyleSheets=[H],this._root=o,this._dark=matchMedia("(prefers-color-scheme: dark)"),this._retheme=()=>this._redraw(),this._dark.addEventListener("change",this._retheme),this._resize=new ResizeObserver(()=>this._redraw()),this._build(e),this._resize.observe(this._section)}get time(){return this._sound.time}get playing(){return this._sound.playing}get span(){return this._view.span}async play(){try{await this._sound.play()}catch(t){this._say(`The audio cannot be played: ${t.message}`)}this._tick()}pause(){this._sound.pause(),this._tick()}seek(t){this._sound.seek(t),this._reveal(),this._tick()}on(t,e){return this._callbacks[t].push(e),this}update(t){let{time:e,playing:s,_sound:o,_view:i}=this,n=this._root.activeElement?.dataset?.row;this._build(t,i),this._sound!==o&&(this._sound.seek(e),s&&this.play()),n&&(this._options().find(a=>a.dataset.row===n)??this._slider).focus()}destroy(){cancelAnimationFrame(this._frame),cancelAnimationFrame(this._drawing),this._sound.destroy(),this._resize.disconnect(),this._dark.removeEventListener("change",this._retheme),this._root.replaceChildren()}_build(t,e=null){let s=this.options.clock?null:t.audio?.url??null;(!this._sound||this._sound.url!==s)&&(this._sound?.destroy(),this._sound=s?new q(s,t.seconds,()=>this._tick()):new L(t.seconds,this.options.clock)),this._clip=t,this._view=new N(t.seconds),e&&e.span<e.seconds&&this._view.set(e.start,e.span),this._peaks=ct(t.peaks),this._tags=new Map((t.tags??[]).map(i=>[i.name,i])),this._lanes=lt(t,this._tags);let o=this._lanes.filter(i=>i.kind==="image");o.some(i=>i.id===this._overlay?.map&&i.names.includes(this._overlay.row))||(this._overlay=o.length?{map:o[0].id,row:o[0].order(0)}:null),this._selected&&!this._lane(this._selected.map)?.names.includes(this._selected.row)&&(this._selected=null);for(let i of this._lanes)this._open.has(i.id)||this._open.set(i.id,i.openAtFirst&&!this.options.lanes);this._lay(),this._applySolo(),this._redraw(),this._tick()}_bound(t){return this._bounds.get(t.id)??ut[0]}_lane(t){return this._lanes.find(e=>e.id===t)}_lay(){let{_clip:t}=this,e=`kt${this._number}`;this._section?.remove();let s=p=>h("canvas",p?{role:"img","aria-label":p}:{"aria-hidden":"true"});this._button=h("button",{class:"play",type:"button",onclick:()=>this._toggle()},B(z.play)),this._clock=h("span",{class:"clock"});let o=h("div",{class:"group",role:"group","aria-label":"Solo"},Q.map(([p,m,u])=>h("button",{type:"button",title:u,"data-solo":p,onclick:()=>this._chooseSolo(p)},m))),i=h("select",{"aria-label":"Share of the row that solo keeps",title:"share that solo keeps",onchange:p=>{this._share=Number(p.target.value),this._applySolo()}},[.1,.25,.5].map(p=>h("option",{value:String(p),selected:p===this._share},`top ${Math.round(100*p)} %`))),n=h("select",{"aria-label":"Scale of the colours",onchange:p=>{this._ownScale=p.target.value==="own",this._redraw()}},h("option",{value:"shared",selected:!this._ownScale},"one scale"),h("option",{value:"own",selected:this._ownScale},"scale per row")),a=(p,m,u,_={})=>h("button",{type:"button","aria-label":m,title:m,onclick:u,..._},p);this._searchField=h("input",{type:"search",placeholder:"Tag or method","aria-label":"Search tags and methods",oninput:p=>{this._search=p.target.value,this._fill()}}),this._searchField.value=this._search;let l=!(this._sound instanceof L)||this.options.clock;this._button.disabled=!l;let c=h("div",{class:"bar"},this._button,this._clock,h("div",{class:"group",role:"group","aria-label":"Zoom"},a("−","Zoom out",()=>this._zoom(2)),a("+","Zoom in",()=>this._zoom(.5)),a("All","Show the whole clip",()=>this._showAll())),this.options.clock?null:h("span",{class:"solo"},h("span",{class:"label"},"Solo"),o,i),n,this._searchField,a("◐","Light, dark or as the system",()=>this._nextTheme(),{class:"plain"}),a("?","Keyboard and mouse",()=>this._help.showModal(),{class:"plain"}));this._status=h("p",{class:"status"}),this._live=h("p",{class:"hidden",role:"status"}),this._slider=h("div",{class:"ruler",role:"slider",tabindex:"0","aria-label":"Position","aria-valuemin":"0","aria-valuemax":t.seconds.toFixed(2)},this._ruler=s()),this._overview=s(),this._pointers(this._slider,null),this._overviewPointer(),this._waveCanvas=s(`Waveform of ${x(t.seconds)}`);let d=h("div",{class:"lane"},h("div",{class:"name"},"waveform"),h("div",{class:"plot"},this._waveCanvas));this._pointers(this._waveCanvas,{kind:"waveform",about:"The sound pressure, as the model hears it."});let f=[d];t.spectrogram&&f.push(this._laySpectrogram(s));for(let p of this._lanes)p.kind!=="image"&&f.push(this._layLane(p,e,s));this._head=h("div",{class:"head"}),this._hairline=h("div",{class:"hairline"}),this._stage=h("div",{class:"stage"},h("div",{class:"lane top"},h("div",{class:"name"}),h("div",{class:"plot"},this._overview,this._slider)),f,h("div",{class:"over"},this._hairline,this._head)),this._tip=h("div",{class:"tip","aria-hidden":"true"}),this._help=this._layHelp(),this._section=h("section",{class:"player","aria-label":`Player: ${t.name}`,"data-theme":this._theme},this.options.title===!1?null:this._layTitle(),(t.warnings??[]).map(p=>h("p",{class:"warning"},p)),h("div",{class:"sticky"},c,this._status),this._live,this._stage,this._layFooter(),this._tip,this._help),this._section.addEventListener("keydown",p=>this.key(p)),this._root.append(this._section),this._resize.disconnect(),this._resize.observe(this._section),this._fill(),this._marks()}_layTitle(){let{name:t,model:e,seconds:s}=this._clip,o=[x(s),e?.name&&`model ${e.name}`,e?.sha256&&`weights ${e.sha256.slice(0,12)}…`].filter(Boolean);return h("header",{},h("h2",{},t),h("p",{},o.join(" · ")))}_layFooter(){let{model:t={},maps:e=[]}=this._clip,s=[["model",t.name],["weights, SHA-256",t.sha256],["version",t.version],...Object.entries(t.settings??{}).map(([o,i])=>[o,typeof i=="object"?JSON.stringify(i):String(i)])].filter(([,o])=>o);return h("details",{class:"about",open:!0},h("summary",{},"Model, methods and settings"),h("dl",{},s.map(([o,i])=>[h("dt",{},o),h("dd",{},i)]).flat()),h("dl",{},e.map(o=>[h("dt",{},o.method??o.id),h("dd",{},o.about??"")]).flat()))}_layHelp(){let t=h("dialog",{"aria-label":"Keyboard and mouse"},h("h3",{},"Keyboard"),h("dl",{},Et.map(([e,s])=>[h("dt",{},h("kbd",{},e)),h("dd",{},s)]).flat()),h("h3",{},"Mouse"),h("p",{},"Click or drag in a lane to go to a moment. Click a row's name to loop its strongest moments. Turn the wheel with Ctrl to zoom, with Shift to move. Drag the strip at the top to move what is shown."),h("button",{type:"button",onclick:()=>t.close()},"Close"));return t}_laySpectrogram(t){let{hz:e}=this._clip.spectrogram;this._specCanvas=t("Mel spectrogram");let s=this._lanes.filter(a=>a.kind==="image"),o=h("div",{class:"axis","aria-hidden":"true"}),i=[];for(let a of Tt){let l=dt(e,a),c=(l+.5)/e.length*S.spectrogram;if(l===null||i.some(f=>Math.abs(f-c)<Ct))continue;i.push(c);let d=h("span",{},a>=1e3?`${a/1e3}k`:String(a));d.style.bottom=`${Math.min(c,S.spectrogram-6)}px`,o.append(d)}let n=null;if(s.length){let a=h("select",{"aria-label":"Map over the spectrogram",onchange:c=>{let[d,f]=c.target.value?JSON.parse(c.target.value):[];this._overlay=d?{map:d,row:f}:null,d&&this._select(d,f),this._redraw()}},h("option",{value:""},"no map"),s.map(c=>h("optgroup",{label:c.method},c.names.map(d=>h("option",{value:JSON.stringify([c.id,d]),selected:this._overlay?.map===c.id&&this._overlay?.row===d},d))))),l=h("input",{type:"range",min:"0",max:"1",step:"0.05","aria-label":"Opacity of the map",oninput:c=>{this._opacity=Number(c.target.value),this._redraw()}});l.value=String(this._opacity),this._overlaySelect=a,this._overlayLegend=Z(),n=h("div",{class:"controls"},a,l,this._overlayLegend.element)}return this._pointers(this._specCanvas,{kind:"spectrogram",about:"The mel spectrogram that the model sees."}),h("div",{class:"lane",role:"group","aria-label":"Spectrogram"},h("div",{class:"heading"},h("h3",{},"spectrogram"),n),h("div",{class:"name"},h("span",{class:"unit"},"Hz"),o),h("div",{class:"plot"},this._specCanvas))}_layLane(t,e,s){let o=`${e}-${this._lanes.indexOf(t)}`;t.canvas=s(`${t.method}, ${t.names.length} rows`),t.list=h("div",{class:"name rows",role:"listbox","aria-label":t.method}),t.more=h("button",{type:"button",class:"more",onclick:()=>{this._full.has(t.id)?this._full.delete(t.id):this._full.add(t.id),this._fill()}}),t.legend=Z(),t.toggle=h("button",{type:"button",class:"toggle","aria-controls":o,onclick:()=>{this._open.set(t.id,!this._open.get(t.id)),this._fill()}},t.method);let i=t.kind!=="rows"&&h("select",{"aria-label":`Range of the colours of ${t.method}`,onchange:n=>{this._bounds.set(t.id,Number(n.target.value)),this._redraw()}},ut.map(n=>h("option",{value:String(n),selected:n===this._bound(t)},`up to ${n} × uniform`)));return t.body=h("div",{class:"body",id:o},t.list,h("div",{class:"plot"},t.canvas),t.more),t.element=h("div",{class:"lane",role:"group","aria-label":t.method},h("div",{class:"heading"},h("h3",{},t.toggle),h("div",{class:"controls"},i,t.legend.element)),h("p",{class:"meaning"},t.about),t.body),this._pointers(t.canvas,t),t.element}_fill(){let t=this._search.trim().toLowerCase(),e=this._root.activeElement?.dataset?.row;for(let s of this._lanes){if(s.kind==="image")continue;let o=t&&`${s.id} ${s.method}`.toLowerCase().includes(t),i=s.sorted();t&&!o&&(i=i.filter(d=>s.names[d].toLowerCase().includes(t)));let n=t&&s.kind==="rows",a=this._open.get(s.id)||o||n&&i.length>0;s.element.hidden=!!(s.kind==="query"?!this._query.on:t&&!o&&!i.length),s.body.hidden=!a,s.toggle.setAttribute("aria-expanded",String(!!a));let l=this._full.has(s.id)||!!t,c=s.kind==="heads"&&!l;s.shown=s.kind==="heads"?c?s.means():s.everyHead():l?i:i.slice(0,pt),s.more.hidden=!!t||(s.kind==="heads"?s.heads<2:i.length<=pt),s.more.textContent=s.kind==="heads"?c?"show heads":"hide heads":l?"show fewer":`show all ${i.length}`,s.list.replaceChildren(...s.shown.map(d=>this._layRow(s,d)))}this._roving(),e&&(this._options().find(s=>s.dataset.row===e)??this._slider).focus(),this._redraw()}_layRow(t,e){let s=t.names[e],o=t.kind==="rows"?this._tags.get(s):null,i=[h("span",{class:"text",title:s},s)],n=[s];if(o&&Number.isFinite(o.score)){let l=h("span",{class:"meter","aria-hidden":"true"});l.style.setProperty("--score",String(o.score)),n.push(`score ${o.score.toFixed(2)}`),Number.isFinite(o.threshold)&&(l.style.setProperty("--threshold",String(o.threshold)),l.classList.add("with-threshold"),l.title=`threshold ${o.threshold.toFixed(2)}`,n.push(`threshold ${o.threshold.toFixed(2)}`)),i.push(l,h("span",{class:"number"},o.score.toFixed(2))),o.present&&n.push("present"),o.heard===!1&&n.push("training had no example of it")}return h("div",{role:"option",class:["row",o?.present&&"present",o?.heard===!1&&"unheard"].filter(Boolean).join(" "),tabindex:"-1","data-row":JSON.stringify([t.id,s]),"aria-label":n.join(", "),title:"loop the strongest moments",onclick:()=>{this._select(t.id,s),this._toggleLoop(!0)},onfocus:()=>this._select(t.id,s)},i)}_options(){return[...this._section.querySelectorAll("[role=option]")].filter(t=>!t.closest("[hidden]"))}_roving(){let t=this._selected&&JSON.stringify([this._selected.map,this._selected.row]);for(let e of this._section.querySelectorAll("[role=listbox]")){let s=[...e.children],o=s.find(i=>i.dataset.row===t);for(let i of s)i.tabIndex=i===(o??s[0])?0:-1,i.setAttribute("aria-selected",String(i===o))}}_select(t,e){if(this._selected?.map===t&&this._selected?.row===e)return;this._selected={map:t,row:e},this._loop&&this._toggleLoop(!1);let s=this._lane(t),o=this._overlay&&this._lane(this._overlay.map);s.kind==="rows"&&o?.names.includes(e)&&(this._overlay={map:o.id,row:e},this._overlaySelect&&(this._overlaySelect.value=JSON.stringify([o.id,e]))),this._roving(),this._applySolo(),this._redraw();for(let i of this._callbacks.select)i({map:t,row:e})}_selectedRow(){let t=this._selected&&this._lane(this._selected.map);return t?{lane:t,row:t.names.indexOf(this._selected.row)}:null}_needSelection(){if(!this._selected){let t=this._lanes.find(e=>e.kind==="rows")??this._lanes.find(e=>e.names.length);t&&this._select(t.id,t.order(0))}return this._selectedRow()}_toggleLoop(t=!this._loop){let e=t?this._needSelection():null;if(this._loop=null,e){let{lane:s,row:o}=e,i=s.curve(o),n=st(i,s.grid.step,s.grid.first,this._clip.seconds);n.length?this._loop=n:this._say(`Nothing speaks for ${s.names[o]}.`)}this._sound.useSegments(this._loop??[]),this._loop&&(this._say(`Looping the strongest moments of ${this._selected.row}.`),this.play()),this._reveal(),this._redraw()}_chooseSolo(t){this._solo=t,t!=="clip"&&this._needSelection(),this._applySolo()}_applySolo(){let t=this._solo==="clip"?null:this._selectedRow(),[e,s,o]=[null,void 0,""];if(t){let{lane:i,row:n}=t,a=this._clip.solo?.[i.id]?.[i.names[n]];a?s=a[this._solo]:i.kind==="image"?o=`The page has no solo of ${i.method}; it is added when asked for.`:e=U(i.curve(n),this._share,i.grid.step,i.grid.first)}o&&(this._solo="clip"),this._kept=e,this._sound.useEnvelope(e,this._solo==="removed"),this._sound.useTrack(s??this._sound.url),o?this._say(o):t&&this._say(`Solo: ${this._solo} by ${t.lane.names[t.row]}.`),this._marks(),this._redraw()}async _toggleQuery(t=!this._query.on){if(!this._lanes.find(s=>s.kind==="query")&&!this.options.query){this._say("This document does not hold where each moment looks.");return}this._query.on=t,t&&await this._ask(this.time),this._fill()}async _ask(t){let e=this._lanes.find(o=>o.kind==="query"),s=Math.floor((t-this._clip.first_seconds)/this._clip.token_seconds);this._query.column=Math.max(s,0),this.options.query&&e&&(e.asked=await this.options.query(t)),e&&e.point(this._query.column,this._lanes.find(o=>o.kind==="heads"));for(let o of this._callbacks.query)o({seconds:t,token:this._query.column});this._say(`Where the moment at ${x(t)} looks, beside [CLS].`),this._fill()}_nextTheme(){let t=["auto","light","dark"];this._theme=t[(t.indexOf(this._theme)+1)%3],this._section.dataset.theme=this._theme,this._say(`Colours: ${this._theme==="auto"?"as the system":this._theme}.`),this._redraw()}_toggle(){this.playing?this.pause():this.play()}_zoom(t){let{time:e,_view:s}=this,o=e>=s.start&&e<=s.end;s.zoom(t,o?e:s.start+s.span/2),this._redraw()}_showAll(){this._view.set(0,this._clip.seconds),this._redraw()}_reveal(){let{time:t,_view:e}=this;t>=e.start&&t<=e.end||(e.set(t-.05*e.span),this._redraw())}_goTo(t){this._loop&&!this._loop.some(([e,s])=>t>=e&&t<=s)&&this._toggleLoop(!1),this.seek(t),this._query.on&&this._ask(this.time)}_tick(){cancelAnimationFrame(this._frame);let{time:t,playing:e,_view:s}=this;e?(this._frame=requestAnimationFrame(()=>this._tick()),this._reveal()):this.options.clock&&(this._frame=requestAnimationFrame(()=>this._tick()));let o=this._plotWidth??0,i=s.x(t,o);if(this._head.hidden=i<-1||i>o+1,this._head.style.transform=`translateX(${i.toFixed(2)}px)`,!(t===this._shownTime&&e===this._shownPlaying)){for(let n of this._callbacks.time)n(t);e&&this._shownPlaying&&Math.abs(t-this._shownTime)<.1||(this._shownTime=t,this._clock.textContent=`${x(t)} / ${x(this._clip.seconds)}`,this._slider.setAttribute("aria-valuenow",t.toFixed(2)),this._slider.setAttribute("aria-valuetext",`${x(t)} of ${x(this._clip.seconds)}`),this._describeSelected(),e!==this._shownPlaying&&this._marks())}}_marks(){this._shownPlaying=this.playing,this._button.setAttribute("aria-label",this.playing?"Pause":"Play"),this._button.replaceChildren(B(this.playing?z.pause:z.play));for(let t of this._section.querySelectorAll("[data-solo]"))t.setAttribute("aria-pressed",String(t.dataset.solo===this._solo))}_say(t){this._live.textContent=t,this._note=t,this._describeSelected()}_describeSelected(){let t=this._selectedRow();if(!t){this._status.textContent=this._note??"Choose a row to read its value at the playhead.";return}let{lane:e,row:s}=t,o=e.kind==="image"?null:e.valueAt(s,this.time);this._status.replaceChildren(h("strong",{},e.names[s]),` ${e.method}${o===null?"":` ${v(o)}`} at ${x(this.time)}. ${e.about}`)}_showTip(t,e,s,o){this._tip.replaceChildren(h("strong",{},`${s.toFixed(2)} s${o?` · ${o}`:""}`),e?.about?h("span",{},e.about):""),this._tip.style.display="block";let i=this._section.getBoundingClientRect(),{offsetWidth:n,offsetHeight:a}=this._tip,l=Math.min(t.clientX-i.left+14,i.width-n-4),c=t.clientY+18+a<window.innerHeight,d=t.clientY-i.top+(c?18:-a-12);this._tip.style.transform=`translate(${Math.max(l,0)}px, ${d}px)`}_hideTip(){this._tip.style.display="none",this._hairline.hidden=!0}_pointers(t,e){let s=!1,o=i=>{let n=t.getBoundingClientRect(),a=Math.min(Math.max(i.clientX-n.left,0),n.width);return{seconds:this._view.seconds_at(a,n.width),x:a,y:(i.clientY-n.top)/n.height}};t.addEventListener("pointerdown",i=>{if(i.button!==0)return;s=!0,t.setPointerCapture(i.pointerId);let{seconds:n,y:a}=o(i),l=e?.rowAt?.(a);l!=null&&this._select(e.id,e.names[l]),this._goTo(n)}),t.addEventListener("pointermove",i=>{let{seconds:n,x:a,y:l}=o(i);if(s&&this.seek(n),i.pointerType==="touch")return;this._hairline.hidden=!1,this._hairline.style.transform=`translateX(${a}px)`;let c=e?.kind==="spectrogram"&&this._overlay&&this._lane(this._overlay.map);this._showTip(i,c||e,n,this._textAt(e,n,l))});for(let i of["pointerup","pointercancel"])t.addEventListener(i,()=>{s&&this._query.on&&this._ask(this.time),s=!1});t.addEventListener("pointerleave",()=>this._hideTip()),t.addEventListener("wheel",i=>{let n=i.shiftKey&&i.deltaY||i.deltaX;if(i.ctrlKey||i.metaKey)this._view.zoom(Math.exp(i.deltaY/300),o(i).seconds);else if(Math.abs(n)>Math.abs(i.shiftKey?0:i.deltaY))this._view.set(this._view.start+n/600*this._view.span);else return;i.preventDefault(),this._redraw(),this._tick()},{passive:!1})}_textAt(t,e,s){if(!t)return"";if(t.kind==="spectrogram"){let{hz:i}=this._clip.spectrogram,n=Math.min(Math.max(Math.floor((1-s)*i.length),0),i.length-1),a=[`${Math.round(i[n]).toLocaleString("en")} Hz`],l=this._overlay&&this._lane(this._overlay.map);if(l){let c=l.names.indexOf(this._overlay.row),d=l.grid.value(c,l.grid.column(e),n);a.push(`${l.names[c]}, ${l.method} ${v(d)}`)}return a.join(" · ")}if(!t.rowAt)return"";let o=t.rowAt(s);return o===null?"":`${t.names[o]} ${t.unit(t.valueAt(o,e))}`}_overviewPointer(){let t=null,e=o=>{let i=this._overview.getBoundingClientRect();return(o.clientX-i.left)/i.width*this._clip.seconds},s=o=>{this._view.set(e(o)-t),this._redraw(),this._tick()};this._overview.addEventListener("pointerdown",o=>{this._overview.setPointerCapture(o.pointerId);let i=e(o);if(this._view.span>=this._clip.seconds)return this._goTo(i);t=i>=this._view.start&&i<=this._view.end?i-this._view.start:this._view.span/2,s(o)}),this._overview.addEventListener("pointermove",o=>t!==null&&s(o)),this._overview.addEventListener("pointerup",()=>t=null)}key(t){if(this._help.open||t.ctrlKey||t.metaKey)return;let e=t.composedPath()[0],s=e.tagName==="INPUT"&&e.type==="search",o=["SELECT","INPUT"].includes(e.tagName),{key:i}=t;if(i==="Escape")return s&&(this._search=e.value="",this._fill(),this._slider.focus()),this._toggleLoop(!1),this._chooseSolo("clip"),t.preventDefault();if(s)return;let n=["BUTTON","SUMMARY"].includes(e.tagName);if(o&&(i.startsWith("Arrow")||[" ","Home","End","Enter"].includes(i))||n&&(i==="Enter"||i===" "&&e!==this._button))return;let a=t.altKey?this._clip.token_seconds:t.shiftKey?5:1,c={" ":()=>this._toggle(),k:()=>this._toggle(),ArrowLeft:()=>this._goTo(Math.max(this.time-a,0)),ArrowRight:()=>this._goTo(Math.min(this.time+a,this._clip.seconds)),Home:()=>this._goTo(0),End:()=>this._goTo(this._clip.seconds),ArrowUp:()=>this._moveRow(-1),ArrowDown:()=>this._moveRow(1),Enter:()=>this._toggleLoop(),l:()=>this._toggleLoop(),s:()=>this._chooseSolo(Q[(Q.findIndex(([d])=>d===this._solo)+1)%3][0]),q:()=>this._toggleQuery(),"+":()=>this._zoom(.5),"=":()=>this._zoom(.5),"-":()=>this._zoom(2),0:()=>this._showAll(),"/":()=>this._searchField.focus(),t:()=>this._nextTheme(),"?":()=>this._help.showModal()}[i];c&&(t.preventDefault(),c(),this._tick())}_moveRow(t){let e=this._options();if(!e.length)return;let s=this._selected&&JSON.stringify([this._selected.map,this._selected.row]),o=e.findIndex(n=>n.dataset.row===s),i=e[o<0?0:Math.min(Math.max(o+t,0),e.length-1)];i.focus({preventScroll:!0}),i.scrollIntoView({block:"nearest"})}_redraw(){this._drawing??=requestAnimationFrame(()=>{this._drawing=null,this._draw()})}_draw(){let t=this._waveCanvas.parentElement.clientWidth;if(!t)return;this._plotWidth=t;let e=getComputedStyle(this._section),s=p=>e.getPropertyValue(`--${p}`).trim(),o=s("theme")==="dark"?"dark":"light",i={wave:s("wave"),waveMuted:s("wave-muted"),muted:s("muted"),line:s("line"),accent:s("accent"),ink:s("ink")},{_view:n,_clip:a}=this,l=new N(a.seconds),c=A(this._overview,t,S.overview);if(Y(c,this._peaks,l,t,S.overview,i,p=>p>=n.start&&p<n.end),n.span<a.seconds){let[p,m]=[l.x(n.start,t),l.x(n.end,t)];c.strokeStyle=i.accent,c.lineWidth=2,c.strokeRect(p+1,1,Math.max(m-p,4)-2,S.overview-2)}at(A(this._ruler,t,S.ruler),n,t,S.ruler,i,this._loop??[]),c=A(this._waveCanvas,t,S.waveform);let d=this._kept,f=this._solo==="removed";Y(c,this._peaks,n,t,S.waveform,i,p=>d?d.some(({start:m,end:u})=>p>=m&&p<u)!==f:!0),a.spectrogram&&this._drawSpectrogram(t,o,i);for(let p of this._lanes){if(p.kind==="image"||p.element.hidden||p.body.hidden)continue;let m={ownScale:this._ownScale,bound:this._bound(p)};p.draw(n,t,o,i,m,this._selected)}this._tick()}_drawSpectrogram(t,e,s){let o=S.spectrogram,i=A(this._specCanvas,t,o),n=this._clip.spectrogram;this._spectrum=this._spectrumOf===n?this._spectrum:ht(n),this._spectrumOf=n;let a=this._overlay&&this._lane(this._overlay.map);if(V(i,this._spectrum,0,T(e,a?"grey":"spectrum"),this._view,t,o),!a)return;let{grid:l}=a,{place:c,low:d,high:f,signed:p}=R(l.low,l.high),m=C(l,K(e,p),c),u=a.names.indexOf(this._overlay.row);V(i,l,u,m,this._view,t,o,this._opacity),this._overlayLegend.set(K(e,p),v(d),v(f),p?.5:null,s.ink)}};function Ot(){let r=new IntersectionObserver(e=>{for(let{isIntersecting:s,target:o}of e)s&&(r.unobserve(o),o.player=ft(o,JSON.parse(o.querySelector("script").textContent)),o.style.minHeight="")},{rootMargin:"600px"}),t=document.querySelectorAll(".keras-tagger-player");for(let e of t)r.observe(e);t.length===1&&document.addEventListener("keydown",e=>{e.target===document.body&&t[0].player?.key(e)});for(let e of document.querySelectorAll(".keras-tagger-index"))et(e,JSON.parse(e.querySelector("script").textContent))}function Lt(){let r=null;try{r=window.frameElement}catch{return}r?.hasAttribute("data-keras-tagger-frame")&&new ResizeObserver(()=>{r.style.height=`${document.documentElement.offsetHeight}px`}).observe(document.documentElement)}Ot();Lt();export{ft as mount};
