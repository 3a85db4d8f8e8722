// Copies the browser modules that the page loads, with their licences, unchanged but for references to what is not
// served: source maps, and fonts in other formats than woff2. The page has no other build.
// `node vendor.mjs --check` writes nothing, and fails where the copies are not what it would write.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const target = new URL("../vendor/", import.meta.url);
const modules = [
  { name: "marked", files: { "marked.js": "lib/marked.esm.js" } },
  { name: "dompurify", files: { "purify.js": "dist/purify.es.mjs" } },
  { name: "@highlightjs/cdn-assets", files: { "highlight.js": "es/highlight.min.js" } },
  { name: "katex", files: { "katex.js": "dist/katex.min.js", "katex.css": "dist/katex.min.css" }, fonts: "dist/fonts/" },
];

const withoutMaps = (code) => code.replace(/^\/\/# sourceMappingURL=.*$/m, "");
const withOneFormat = (css) => css.replace(/,url\([^)]*\) format\("(?:woff|truetype)"\)/g, "");

const files = new Map(); // name -> bytes
const licences = [];
for (const { name, files: copied, fonts } of modules) {
  const source = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", source), "utf8"));
  for (const [as, file] of Object.entries(copied)) {
    const text = await readFile(new URL(file, source), "utf8");
    files.set(as, Buffer.from(as.endsWith(".css") ? withOneFormat(text) : withoutMaps(text)));
  }
  for (const font of fonts ? await readdir(new URL(fonts, source)) : []) {
    if (font.endsWith(".woff2")) files.set(`fonts/${font}`, await readFile(new URL(fonts + font, source)));
  }
  const text = (await readFile(new URL("LICENSE", source), "utf8")).trim();
  licences.push(`${Object.keys(copied).join(", ")}${fonts ? ", fonts/" : ""}: ${name} ${version}, ${license}\n\n${text}\n`);
}
files.set("LICENSES.txt", Buffer.from(licences.join(`\n${"-".repeat(80)}\n\n`)));

if (process.argv.includes("--check")) {
  const there = (await readdir(target, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const folder = fileURLToPath(target);
  const names = new Set([...files.keys(), ...there.map((entry) => relative(folder, join(entry.parentPath, entry.name)))]);
  for (const name of names) {
    const found = await readFile(new URL(name, target)).catch(() => undefined);
    const wanted = files.get(name);
    if (!found || !wanted || !found.equals(wanted)) {
      console.error(`vendor/${name} is not what package-lock.json says: run make vendor`);
      process.exitCode = 1;
    }
  }
} else {
  await rm(target, { recursive: true, force: true });
  await mkdir(new URL("fonts/", target), { recursive: true });
  for (const [name, bytes] of files) await writeFile(new URL(name, target), bytes);
}
