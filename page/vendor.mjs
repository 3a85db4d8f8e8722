// Copies the browser modules that the page loads, with their licences, unchanged but for the
// reference to source maps that are not served. The page has no other build.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";

const target = new URL("../pytrimode/server/page/vendor/", import.meta.url);
const modules = [
  { name: "marked", file: "lib/marked.esm.js", as: "marked.js", licence: "LICENSE" },
  { name: "dompurify", file: "dist/purify.es.mjs", as: "purify.js", licence: "LICENSE" },
  { name: "@highlightjs/cdn-assets", file: "es/highlight.min.js", as: "highlight.js", licence: "LICENSE" },
];

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
const licences = [];
for (const { name, file, as, licence } of modules) {
  const source = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", source), "utf8"));
  const code = await readFile(new URL(file, source), "utf8");
  await writeFile(new URL(as, target), code.replace(/^\/\/# sourceMappingURL=.*$/m, ""));
  const text = (await readFile(new URL(licence, source), "utf8")).trim();
  licences.push(`${as}: ${name} ${version}, ${license}\n\n${text}\n`);
}
await writeFile(new URL("LICENSES.txt", target), licences.join(`\n${"-".repeat(80)}\n\n`));
