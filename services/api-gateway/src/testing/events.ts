export interface StreamedEvent {
  id?: string;
  event: string;
  data: Record<string, unknown>;
}

/** Reads server-sent events from a response, one by one, until the server ends it. */
export async function* readEvents(response: Response): AsyncGenerator<StreamedEvent> {
  let text = '';
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = Object.fromEntries(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]),
      ) as { id?: string; event?: string; data?: string };
      text = text.slice(end + 2);
      if (fields.event && fields.data)
        yield { ...fields, event: fields.event, data: JSON.parse(fields.data) as StreamedEvent['data'] };
    }
  }
}
