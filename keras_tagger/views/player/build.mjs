// Bundle src/ into assets/player.js: `npm ci && npm run build`.
//
// The first line of the bundle has the hash of what it was built from; a test compares it.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const sources = [...readdirSync("src").sort().map((name) => `src/${name}`), "build.mjs", "package-lock.json"];
const hash = createHash("sha256");
for (const name of sources) hash.update(name + "\0").update(readFileSync(name)).update("\0");

await build({
  entryPoints: ["src/index.js"],
  outfile: "assets/player.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2021",
  charset: "utf8",
  loader: { ".css": "text" },
  legalComments: "none",
  banner: { js: `/* keras_tagger player, Apache-2.0. Sources: ${hash.digest("hex")} */` },
});
