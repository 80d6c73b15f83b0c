/** An event as its consumer gets it. */
export interface ReceivedEvent {
  id: string;
  type: string;
  time: string;
  project: string | null;
  entity: string;
  traceparent: string | null;
  data: Record<string, unknown>;
}
