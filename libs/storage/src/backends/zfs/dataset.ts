/** A file system, with the user properties that M2 sets on it and on its snapshots. */
export interface Dataset {
  path: string;
  /** The snapshot that it is a clone of. */
  origin: string | undefined;
  mounted: boolean;
  /** `m2:size`: its volume is complete, and has this many bytes. */
  sizeBytes: number | undefined;
  /** `m2:attached`. */
  attached: boolean;
  /** Name and `m2:size`. */
  snapshots: Map<string, number | undefined>;
}

/** What can be cloned, sent and read: a snapshot's full name, and the size of its volume. */
export interface Source {
  snapshot: string;
  sizeBytes: number;
}
