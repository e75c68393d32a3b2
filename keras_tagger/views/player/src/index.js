// What the bundle exports; a page with clip documents in it gets a player for each.

import { mountIndex } from "./files.js";
import { mount } from "./player.js";

export { mount };

/** Put a player in the place of each clip document of the page, when it comes near. */
function mountAll() {
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        target.player = mount(target, JSON.parse(target.querySelector("script").textContent));
        target.style.minHeight = "";
      }
    },
    { rootMargin: "600px" },
  );
  const elements = document.querySelectorAll(".keras-tagger-player");
  for (const element of elements) near.observe(element);
  // The keys work without a click into the player first.
  if (elements.length === 1) {
    document.addEventListener("keydown", (event) => {
      if (event.target === document.body) elements[0].player?.key(event);
    });
  }
  for (const element of document.querySelectorAll(".keras-tagger-index")) {
    mountIndex(element, JSON.parse(element.querySelector("script").textContent));
  }
}

/** In a frame of a notebook: as high as the player. */
function fitFrame() {
  let frame = null;
  try {
    frame = window.frameElement;
  } catch {
    return; // another origin
  }
  if (!frame?.hasAttribute("data-keras-tagger-frame")) return;
  new ResizeObserver(() => {
    frame.style.height = `${document.documentElement.offsetHeight}px`;
  }).observe(document.documentElement);
}

mountAll();
fitFrame();
