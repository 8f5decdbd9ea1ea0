// A user's sign-in as apps keep it (examples/clients/session.mjs), over a network whose faults a test decides.
import { Session, inMemory } from '../../../../examples/clients/session.mjs';

export class Account {
  n_sign_ins = 0;
  /** Refreshes whose answer is lost on its way to the client. */
  n_lost = 0;
  /** How many refreshes wait for each other, to reach the server at the same time. */
  together = 1;
  #waiting = [];

  constructor(url, { email, password }) {
    Object.assign(this, { url, email, password });
    this.store = inMemory();
    this.session = new Session(url, this.store, this.fetch);
  }

  async signIn() {
    this.n_sign_ins += 1;
    await this.session.signIn(this.email, this.password);
  }

  /** The same session in another tab: it shares the store. */
  twin() {
    return new Session(this.url, this.store, this.fetch);
  }

  fetch = async (url, init) => {
    const isRefresh = String(init?.body).includes('refreshToken(');
    if (!isRefresh) return fetch(url, init);
    await this.#others();
    const response = await fetch(url, init);
    if (this.n_lost === 0) return response;
    this.n_lost -= 1;
    await response.text();
    throw new TypeError('the connection was lost before the answer arrived');
  };

  /** Waits until as many refreshes are ready as are to be sent together. */
  async #others() {
    if (this.together <= 1) return;
    await new Promise((go) => {
      this.#waiting.push(go);
      if (this.#waiting.length < this.together) return;
      this.together = 1;
      this.#waiting.splice(0).forEach((waiting) => waiting());
    });
  }
}
