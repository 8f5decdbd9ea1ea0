// Makes a request smaller as long as the same difference stays.
import { Kind, parse, print } from 'graphql';
import * as ast from './ast.mjs';

const MAX_TRIES = 300;
const REMOVABLE = [
  Kind.FIELD,
  Kind.INLINE_FRAGMENT,
  Kind.FRAGMENT_SPREAD,
  Kind.ARGUMENT,
  Kind.DIRECTIVE,
  Kind.OBJECT_FIELD,
  Kind.VARIABLE_DEFINITION,
  Kind.FRAGMENT_DEFINITION,
  Kind.OPERATION_DEFINITION,
  Kind.NAME,
];

/** The smallest request found. `isSame` says whether a request still shows the difference. */
export async function reduce(request, isSame) {
  let tries = 0;
  let best = request;
  const attempt = async (candidate) => {
    if (tries >= MAX_TRIES || candidate.query === '') return false;
    tries += 1;
    if (!(await isSame(candidate))) return false;
    best = candidate;
    return true;
  };
  if (best.variables !== undefined) await attempt({ ...best, variables: undefined });
  for (let progress = true; progress && tries < MAX_TRIES;) {
    progress = false;
    // Positions behind a removed part stay valid, so the walk goes on from there.
    for (let at = 0; tries < MAX_TRIES;) {
      const found = candidates(best, at);
      if (found === null) break;
      let isSmaller = false;
      for (const candidate of found) isSmaller ||= await attempt(candidate);
      progress ||= isSmaller;
      if (!isSmaller) at += 1;
    }
  }
  return best;
}

/** Requests without what is at a position, or null behind the last position. */
function candidates(request, at) {
  const tree = parsed(request.query);
  return tree === null ? textCandidates(request, at) : treeCandidates(request, tree, at);
}

function parsed(text) {
  try {
    return parse(text, { noLocation: true });
  } catch {
    return null;
  }
}

function treeCandidates(request, tree, at) {
  if (at >= ast.ofKind(tree, ...REMOVABLE).length) return null;
  const without = (...replacements) => {
    const copy = structuredClone(tree);
    const { node, parent, key, index } = ast.ofKind(copy, ...REMOVABLE)[at];
    const isNeeded = node.kind === Kind.NAME ? key !== 'alias' : parent[key].length + replacements.length === 1;
    if (isNeeded && key !== 'arguments' && key !== 'directives' && key !== 'variableDefinitions') return [];
    if (index === null) delete parent[key];
    else parent[key].splice(index, 1, ...replacements);
    return [copy, withoutUnused(structuredClone(copy))].map((smaller) => ({ ...request, query: print(smaller) }));
  };
  const { node } = ast.ofKind(tree, ...REMOVABLE)[at];
  return node.kind === Kind.INLINE_FRAGMENT ? [...without(), ...without(...node.selectionSet.selections)] : without();
}

/** The tree without variables and fragments that nothing uses. */
function withoutUnused(tree) {
  for (let size = -1; size !== tree.definitions.length;) {
    size = tree.definitions.length;
    const spreads = ast.ofKind(tree, Kind.FRAGMENT_SPREAD).map(({ node }) => node.name.value);
    tree.definitions = tree.definitions.filter(
      (d) => d.kind !== Kind.FRAGMENT_DEFINITION || spreads.includes(d.name.value),
    );
  }
  const variables = ast.ofKind(tree, Kind.VARIABLE).filter(({ parent }) => parent.kind !== Kind.VARIABLE_DEFINITION);
  const used = variables.map(({ node }) => node.name.value);
  for (const definition of tree.definitions) {
    definition.variableDefinitions = definition.variableDefinitions?.filter((d) =>
      used.includes(d.variable.name.value),
    );
  }
  return tree;
}

/** Pieces of a text, the largest first: halves, quarters and so on. */
function textCandidates(request, at) {
  const { query } = request;
  const level = Math.floor(Math.log2(at + 2));
  const size = Math.ceil(query.length / 2 ** level);
  const start = (at + 2 - 2 ** level) * size;
  if (size <= 1 && start >= query.length) return null;
  return start < query.length ? [{ ...request, query: query.slice(0, start) + query.slice(start + size) }] : [];
}
