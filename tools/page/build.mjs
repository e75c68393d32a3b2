// Bundle src/ and what it needs into the folder that the command line names: `npm ci && node build.mjs FOLDER`.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const folder = process.argv[2];
mkdirSync(folder, { recursive: true });
await build({
  entryPoints: ["src/main.js"],
  outfile: join(folder, "page.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  loader: { ".css": "text" },
  legalComments: "linked",
});
copyFileSync("index.html", join(folder, "index.html"));
const wasm = "ort-wasm-simd-threaded.wasm";
copyFileSync(`node_modules/onnxruntime-web/dist/${wasm}`, join(folder, wasm));
