// Finds changes between two schemas that break clients (findBreakingChanges of graphql-js):
// node schema_changes.mjs RELEASED CURRENT ALLOWED. ALLOWED is a JSON file with reasons and the changes they explain.
// Fails for a change without a reason, and for a reason whose change was not made.
import { readFileSync } from 'node:fs';
import { buildSchema, findBreakingChanges } from 'graphql';

const [released, current, allowedFile] = process.argv.slice(2);
const schema = (path) => buildSchema(readFileSync(path, 'utf8'));
const made = findBreakingChanges(schema(released), schema(current)).map(({ description }) => description);
const allowed = JSON.parse(readFileSync(allowedFile, 'utf8')).flatMap(({ reason, changes }) => (reason ? changes : []));

const problems = [
  ...made.filter((change) => !allowed.includes(change)).map((change) => `breaks clients: ${change}`),
  ...allowed.filter((change) => !made.includes(change)).map((change) => `was not made: ${change}`),
];
for (const problem of problems) console.log(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
