// What graphql-js says to a request: refused before anything runs, or the answer over a snapshot.
import { execute, getArgumentValues, getOperationAST, getVariableValues, GraphQLError, parse, validate } from 'graphql';
import { rules, schema } from './schema.mjs';

/** Whether a subscription's root fields depend on directives: the specification of 2025 forbids it, the one of 2021
 * does not, and graphql-js 16 fails with an exception if a variable is involved. */
function isUndecided({ definitions }) {
  const isConditional = (set, seen) =>
    set.selections.some((selection) => {
      if (selection.directives.some(({ name }) => name.value === 'skip' || name.value === 'include')) return true;
      if (selection.kind === 'Field') return false;
      if (selection.kind === 'InlineFragment') return isConditional(selection.selectionSet, seen);
      const key = selection.name.value;
      const fragment = definitions.find((d) => d.kind === 'FragmentDefinition' && d.name.value === key);
      const isOpen = fragment !== undefined && !seen.includes(key);
      return isOpen && isConditional(fragment.selectionSet, [...seen, key]);
    });
  return definitions.some((d) => d.operation === 'subscription' && isConditional(d.selectionSet, []));
}

/** The request as graphql-js reads it: `refused`, `undecided`, or the chosen operation and the coerced variables. */
export function judge({ query, variables, operationName }) {
  let document;
  try {
    document = parse(query);
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    return { refused: [error] };
  }
  if (isUndecided(document)) return { undecided: true };
  const errors = validate(schema, document, rules);
  if (errors.length > 0) return { refused: errors, document };
  const operation = getOperationAST(document, operationName);
  if (!operation) return { refused: [new GraphQLError('There is no operation of this name.')], document };
  const coerced = getVariableValues(schema, operation.variableDefinitions ?? [], parsed(variables), { maxErrors: 50 });
  if (coerced.errors) return { refused: coerced.errors, document };
  return { document, operation, coerced: coerced.coerced };
}

const parsed = (variables) => (variables === undefined ? {} : (JSON.parse(variables) ?? {}));

/** The answer to a request that was not refused, as text, with the errors' paths. */
export function answer(judged, request, fieldResolver, rootValue) {
  const result = execute({
    schema,
    document: judged.document,
    operationName: request.operationName,
    variableValues: parsed(request.variables),
    fieldResolver,
    rootValue,
  });
  return { data: JSON.stringify(result.data), errors: result.errors ?? [] };
}

/** The field and arguments of a subscription, or null for one whose arguments are refused. */
export function subscribed({ document, operation, coerced }) {
  const open = [operation.selectionSet];
  while (open.length > 0) {
    for (const selection of open.pop().selections) {
      if (selection.kind === 'Field') {
        const definition = schema.getSubscriptionType().getFields()[selection.name.value];
        try {
          return {
            field: definition.name,
            key: (selection.alias ?? selection.name).value,
            args: getArgumentValues(definition, selection, coerced),
          };
        } catch {
          return null;
        }
      }
      const fragment = document.definitions.find(
        (d) => d.name?.value === selection.name?.value && d.kind === 'FragmentDefinition',
      );
      open.push((selection.kind === 'InlineFragment' ? selection : fragment).selectionSet);
    }
  }
  return null;
}
