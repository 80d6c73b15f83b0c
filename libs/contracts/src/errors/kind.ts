/**
 * What a saga does with a step that fails like this. `transient`: asks again until the step's deadline. `absent`: waits, for the service is not
 * there at all. `final`: nothing changes by itself, so it turns back. `bug`: asks again a few times with growing pauses, then turns back.
 */
export type RetryClass = 'transient' | 'absent' | 'final' | 'bug';

export interface ErrorKind {
  status: number;
  title: string;
  remedy: string;
  retry: RetryClass;
  /** The command did not reach what it was for, so there is nothing to undo. */
  untouched?: boolean;
}

export const kind = (status: number, title: string, remedy: string, retry: RetryClass = 'final'): ErrorKind => ({
  status,
  title,
  remedy,
  retry,
});
