/** For whom, and in which project, an operation is begun. */
export interface Commission {
  /** The operation is called so; absent: it gets an identifier of its own. */
  id?: string;
  /** Who asks: the token's identifier, and the name to show. */
  actor: { token: string; name: string };
  project: { id: string };
}
