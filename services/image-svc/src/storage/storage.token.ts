/** The storage backend that the module wired. */
export const STORAGE = Symbol('storage backend');
