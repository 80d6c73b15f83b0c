/** Injection token of the `StorageBackend`. */
export const STORAGE = Symbol('storage backend');
