// Generates types for schema.graphql as apps do, and checks apps that use them:
// graphql-codegen (client preset, introspection, schema-ast), gql.tada (generate-output, check), the TypeScript compiler.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { codegen } from '@graphql-codegen/core';
import { preset } from '@graphql-codegen/client-preset';
import * as introspection from '@graphql-codegen/introspection';
import * as schemaAst from '@graphql-codegen/schema-ast';
import { buildASTSchema, buildClientSchema, buildSchema, parse, printSchema } from 'graphql';

const here = import.meta.dirname ?? dirname(new URL(import.meta.url).pathname);
const generated = join(here, 'generated');
const schema = parse(await readFile(join(here, '../../../schema.graphql'), 'utf8'));
const schemaAstObject = buildASTSchema(schema);
const run = promisify(execFile);
const tool = (name, ...args) => run(process.execPath, [join(here, '../node_modules', name), ...args], { cwd: here })
  .catch((error) => assert.fail(`${name} ${args.join(' ')}\n${error.stdout}${error.stderr}`));

async function write(name, text) {
  await mkdir(dirname(name), { recursive: true });
  await writeFile(name, text);
}

/** What a plugin makes of the schema alone. */
const plugin = (filename, name, implementation, config = {}) => codegen({
  filename, schema, schemaAst: schemaAstObject, documents: [], config: {},
  plugins: [{ [name]: config }], pluginMap: { [name]: implementation },
});

const whole = printSchema(schemaAstObject);
await rm(generated, { recursive: true, force: true });
const printed = await plugin('schema.graphql', 'schema-ast', schemaAst, { includeDirectives: true });
assert.ok(printSchema(buildSchema(printed)) === whole, 'schema-ast prints the schema');
const json = JSON.parse(await plugin('schema.json', 'introspection', introspection, { specifiedByUrl: true }));
assert.ok(printSchema(buildClientSchema(json)) === whole, 'the introspection is the schema');

// The client preset finds the documents in the app's source.
const source = await readFile(join(here, 'app_codegen.ts'), 'utf8');
const documents = [...source.matchAll(/graphql\(`([^`]+)`\)/g)].map(([, rawSDL]) => (
  { location: 'app_codegen.ts', rawSDL, document: parse(rawSDL) }
));
assert.equal(documents.length, 4);
const sections = await preset.buildGeneratesSection({
  baseOutputDir: 'codegen/', schema, schemaAst: schemaAstObject, documents, plugins: [], pluginMap: {}, presetConfig: {},
  config: { scalars: { DateTime: 'string', JSON: 'unknown', MacAddress: 'string' } },
});
for (const section of sections) await write(join(generated, section.filename), await codegen(section));

await tool('gql.tada/bin/cli.js', 'generate-output', '--disable-preprocessing');
await tool('gql.tada/bin/cli.js', 'check');
await tool('typescript/bin/tsc', '-p', here);
console.log('ok');
