// Random numbers that a seed repeats: xmur3 spreads the seed's text, sfc32 generates.

/** A source of random choices. The same text gives the same choices. */
export class Random {
  constructor(text) {
    let h = 1779033703 ^ text.length;
    for (const char of text) {
      h = Math.imul(h ^ char.codePointAt(0), 3432918353);
      h = (h << 13) | (h >>> 19);
    }
    const next = () => {
      h = Math.imul(h ^ (h >>> 16), 2246822507);
      h = Math.imul(h ^ (h >>> 13), 3266489909);
      return (h ^= h >>> 16) >>> 0;
    };
    this.state = [next(), next(), next(), next()];
    for (let i = 0; i < 12; i += 1) this.float();
  }

  /** From 0 to below 1. */
  float() {
    let [a, b, c, d] = this.state;
    const t = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    this.state = [a, b, c, d];
    return (t >>> 0) / 4294967296;
  }

  /** A whole number from `low` to `high`, both included. */
  int(low, high) {
    return low + Math.floor(this.float() * (high - low + 1));
  }

  chance(probability) {
    return this.float() < probability;
  }

  pick(list) {
    return list[this.int(0, list.length - 1)];
  }

  /** A value of `[[weight, value], …]`. */
  weighted(choices) {
    let at = this.float() * choices.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of choices) {
      at -= weight;
      if (at < 0) return value;
    }
    return choices.at(-1)[1];
  }

  shuffle(list) {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i -= 1) {
      const j = this.int(0, i);
      [copy[i], copy[j]] = [copy[j], copy[i]];
    }
    return copy;
  }
}
