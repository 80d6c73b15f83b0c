/** A file system, with what M2 keeps in user properties of it and of its snapshots. */
export interface Dataset {
  path: string;
  /** The snapshot that it is a clone of. */
  origin: string | undefined;
  mounted: boolean;
  /** `m2:size`: its volume is whole, and has that many bytes. */
  sizeBytes: number | undefined;
  /** `m2:attached`. */
  attached: boolean;
  /** Name and `m2:size`. */
  snapshots: Map<string, number | undefined>;
}

/** What can be cloned, sent and read: a snapshot's full name, and the size of the volume that it is of. */
export interface Source {
  snapshot: string;
  sizeBytes: number;
}
