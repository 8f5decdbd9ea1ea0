// Texts of a document: ignored characters, escapes that change nothing, and damage.
import { Lexer, print, Source, stripIgnoredCharacters, TokenKind } from 'graphql';

/** Every token of a text with its position, or null if it has a lexical error. */
function tokens(text) {
  try {
    const lexer = new Lexer(new Source(text));
    const found = [];
    for (let token = lexer.advance(); token.kind !== TokenKind.EOF; token = lexer.advance()) found.push(token);
    return found;
  } catch {
    return null;
  }
}

/** Replaces every token's text by what `change` returns. */
function retokenised(text, change) {
  const found = tokens(text);
  if (found === null) return text;
  let [out, end] = ['', 0];
  for (const token of found) {
    out += text.slice(end, token.start) + change(token, text.slice(token.start, token.end));
    end = token.end;
  }
  return out + text.slice(end);
}

const hex = (number) => number.toString(16);
/** A character in one of the forms that a string may have it in. */
function escaped(random, char) {
  const code = char.codePointAt(0);
  const units = [...Array(char.length).keys()].map((at) => `\\u${hex(char.charCodeAt(at)).padStart(4, '0')}`).join('');
  const forms = [units, `\\u{${hex(code)}}`, `\\u{000${hex(code)}}`];
  return random.pick(forms);
}

/** The same strings with characters escaped. */
export const withEscapes = (random, text) =>
  retokenised(text, (token, source) => {
    if (token.kind !== TokenKind.STRING || !random.chance(0.7)) return source;
    const char = (c) => (random.chance(0.3) ? escaped(random, c) : JSON.stringify(c).slice(1, -1));
    return `"${[...token.value].map(char).join('')}"`;
  });

const IGNORED = [' ', '\n', '\t', ',', ',,', '\r\n', '# {"\n', '#\r', '\ufeff'];
/** The same tokens with other ignored characters between them. */
const withIgnored = (random, text) =>
  retokenised(text, (_, source) => source + (random.chance(0.2) ? random.pick(IGNORED) : ' '));

/** The text of a syntax tree in one of several styles. */
export function printed(random, tree) {
  const text = print(tree);
  const style = random.weighted([
    [50, 'plain'],
    [20, 'compact'],
    [15, 'ignored'],
    [15, 'escapes'],
  ]);
  if (style === 'compact') return stripIgnoredCharacters(text);
  if (style === 'ignored') return withIgnored(random, text);
  return style === 'escapes' ? withEscapes(random, text) : text;
}

const STRINGS = [
  '"\\ud83d\\udecf"',
  '"\\ud83d"',
  '"\\udecf\\ud83d"',
  '"\\u{1F6CF}"',
  '"\\u{110000}"',
  '"\\u{d800}"',
  '"\\u{}"',
  '"\\x41"',
  '"\\u00g1"',
  '"a\nb"',
  '"""a "" \\""" b"""',
  '"""\n  a\n    b\n"""',
  '"""a""',
  '"',
  '""""""',
  '"\\b\\f\\n\\r\\t\\/"',
  '"\\u{00000041}"',
  '"\t"',
  '"\u0007"',
  '"\\u0000"',
  "'a'",
  '"\\u{41"',
];
const NUMBERS = [
  '01',
  '1.',
  '.5',
  '1e',
  '1e+2',
  '-',
  '- 1',
  '+1',
  '1a',
  '0x1',
  '00',
  '-01',
  '1_000',
  '1.2.3',
  '1e2.5',
  '12345678901234567890',
];
const JUNK = [
  '{',
  '}',
  '(',
  ')',
  '[',
  ']',
  '$',
  '!',
  ':',
  '=',
  '@',
  '|',
  '&',
  '...',
  '..',
  '.',
  '"',
  '""',
  '"""',
  '#',
  '%',
  '?',
  '\\',
  ';',
  'on',
  'fragment',
  'query',
  'mutation',
  'type X{a:Int}',
  'extend type Home{a:Int}',
  'null',
  'true',
  '{}',
  '()',
  '{id}',
  '\u0000',
  'é',
  '🛏',
  '\u200b',
  '\ufeff',
  '\u00a0',
  '"text"',
  '1',
  '$x',
  '@skip',
  '... on',
  'schema{query:Query}',
  'fragment on on User{id}',
];

const DAMAGE = {
  'a token less': (random, text, found) => {
    const token = random.pick(found);
    return text.slice(0, token.start) + text.slice(token.end);
  },
  'a token twice': (random, text, found) => {
    const token = random.pick(found);
    return `${text.slice(0, token.end)} ${text.slice(token.start)}`;
  },
  'two tokens exchanged': (random, text, found) => {
    const [a, b] = [random.pick(found), random.pick(found)].sort((x, y) => x.start - y.start);
    if (a === b) return text;
    const part = (token) => text.slice(token.start, token.end);
    return text.slice(0, a.start) + part(b) + text.slice(a.end, b.start) + part(a) + text.slice(b.end);
  },
  'something between': (random, text, found) => {
    const at = random.pick(found).start;
    return `${text.slice(0, at)} ${random.pick(JUNK)} ${text.slice(at)}`;
  },
  'something within': (random, text) => {
    const at = random.int(0, text.length);
    return text.slice(0, at) + random.pick(JUNK) + text.slice(at);
  },
  'the end less': (random, text) => text.slice(0, random.int(0, text.length)),
  'another string': (random, text, found) => {
    const token = found.filter(({ kind, start }) => /STRING/i.test(kind) && !isOfCustomScalar(text.slice(0, start)));
    return token.length === 0 ? text : replaced(text, random.pick(token), random.pick(STRINGS));
  },
  'another number': (random, text, found) => {
    const token = found.filter(({ kind }) => kind === TokenKind.INT || kind === TokenKind.FLOAT);
    return token.length === 0 ? text : replaced(text, random.pick(token), random.pick(NUMBERS));
  },
};

/** Whether the string that follows is a value of a custom scalar, which graphql-js accepts whatever it is. */
const isOfCustomScalar = (before) =>
  /(\b(from|to|macAddress|expiresAt)\s*:|(DateTime|MacAddress)!?\s*=)\s*$/.test(before);

const replaced = (text, token, by) => text.slice(0, token.start) + by + text.slice(token.end);

/** Damages a text. Returns the text and what was done to it. */
export function damaged(random, text) {
  const found = tokens(text);
  if (!found || found.length === 0) return { text, done: [] };
  const [name, change] = random.pick(Object.entries(DAMAGE));
  return { text: change(random, text, found), done: [name] };
}
