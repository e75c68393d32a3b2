// Bundle src/ into assets/player.js: `npm ci && npm run build`.
//
// assets/theme.css is a source too, which the tab of TensorBoard loads as it is. The first line of the bundle has the
// hash of what it was built from; a test compares it.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const sources = readdirSync("src").sort().map((name) => `src/${name}`);
const hash = createHash("sha256");
for (const name of [...sources, "assets/theme.css", "build.mjs", "package-lock.json"]) {
  hash.update(name + "\0").update(readFileSync(name)).update("\0");
}

const options = { bundle: true, minify: true, charset: "utf8", legalComments: "none" };

// A style sheet, with what it imports, is a text to the script.
const sheets = {
  name: "sheets",
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { outputFiles } = await build({ ...options, entryPoints: [path], write: false });
      return { contents: outputFiles[0].text, loader: "text" };
    }),
};

await build({
  ...options,
  entryPoints: ["src/index.js"],
  outfile: "assets/player.js",
  format: "esm",
  target: "es2021",
  plugins: [sheets],
  banner: { js: `/* keras_tagger player, Apache-2.0. Sources: ${hash.digest("hex")} */` },
});
