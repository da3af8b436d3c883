// Reads AsyncAPI documents by the official parser; prints what is wrong with them, and fails where something is.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [folder, ...files] = process.argv.slice(2);
const { Parser } = createRequire(folder + "/")("@asyncapi/parser");
const parser = new Parser();
let good = true;
for (const file of files) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  const wrong = diagnostics.filter((each) => each.severity < 2);
  for (const each of wrong) console.error(file, each.path.join("."), each.message);
  good &&= document !== undefined && wrong.length === 0;
}
process.exit(good && files.length ? 0 : 1);
