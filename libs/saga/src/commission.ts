/** The key of a request that may be sent again, with a hash of what was asked, so that another request under the same key is found out. */
export interface Idempotency {
  key: string;
  hash: Buffer;
}

/** For whom, and in which project, an operation is begun. */
export interface Commission {
  /** The operation is called so; absent: it gets an identifier of its own. */
  id?: string;
  /** Who asks: the token's identifier, and the name to show. */
  actor: { token: string; name: string };
  project: { id: string };
  idempotency?: Idempotency | undefined;
}
