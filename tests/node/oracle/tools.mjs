// What tools do with the schema's text: build, print, introspect, sort. Prints why one can't; exit status 0 if all can.
import {
  buildClientSchema,
  buildSchema,
  findBreakingChanges,
  introspectionFromSchema,
  lexicographicSortSchema,
  printSchema,
  validateSchema,
} from 'graphql';
import { sdl } from './schema.mjs';

const schema = buildSchema(sdl);
const steps = {
  'the schema is valid': () => {
    for (const error of validateSchema(schema)) throw error;
  },
  'it prints what it was built from': () => {
    const printed = printSchema(schema);
    if (printSchema(buildSchema(printed)) !== printed) throw new Error('printed twice, it differs');
  },
  'it is introspected, and built from that': () => {
    const all = {
      specifiedByUrl: true,
      directiveIsRepeatable: true,
      schemaDescription: true,
      inputValueDeprecation: true,
      oneOf: true,
    };
    const built = buildClientSchema(introspectionFromSchema(schema, all));
    for (const { description } of findBreakingChanges(schema, built)) throw new Error(description);
    printSchema(built);
  },
  'it is sorted': () => void printSchema(lexicographicSortSchema(schema)),
};

let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  try {
    step();
  } catch (error) {
    failed += 1;
    console.log(`${name}: ${error.message}`);
  }
}
process.exit(failed === 0 ? 0 : 1);
