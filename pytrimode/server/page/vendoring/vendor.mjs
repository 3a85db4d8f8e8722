// Copies the browser modules that the page loads, with their licences, unchanged but for the
// reference to source maps that are not served. The page has no other build.
// `node vendor.mjs --check` writes nothing, and fails where the copies are not what it would write.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";

const target = new URL("../vendor/", import.meta.url);
const modules = [
  { name: "marked", file: "lib/marked.esm.js", as: "marked.js", licence: "LICENSE" },
  { name: "dompurify", file: "dist/purify.es.mjs", as: "purify.js", licence: "LICENSE" },
  { name: "@highlightjs/cdn-assets", file: "es/highlight.min.js", as: "highlight.js", licence: "LICENSE" },
];

const files = new Map();
const licences = [];
for (const { name, file, as, licence } of modules) {
  const source = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", source), "utf8"));
  const code = await readFile(new URL(file, source), "utf8");
  files.set(as, code.replace(/^\/\/# sourceMappingURL=.*$/m, ""));
  const text = (await readFile(new URL(licence, source), "utf8")).trim();
  licences.push(`${as}: ${name} ${version}, ${license}\n\n${text}\n`);
}
files.set("LICENSES.txt", licences.join(`\n${"-".repeat(80)}\n\n`));

if (process.argv.includes("--check")) {
  const names = new Set([...files.keys(), ...(await readdir(target))]);
  for (const name of names) {
    const there = await readFile(new URL(name, target), "utf8").catch(() => undefined);
    if (there !== files.get(name)) {
      console.error(`vendor/${name} is not what package-lock.json says: run make vendor`);
      process.exitCode = 1;
    }
  }
} else {
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { recursive: true });
  for (const [name, text] of files) {
    await writeFile(new URL(name, target), text);
  }
}
