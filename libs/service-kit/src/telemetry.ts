import {
  context,
  metrics,
  propagation,
  SpanStatusCode,
  trace,
  type Context,
  type Meter,
  type Span,
  type SpanKind,
} from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';

export { SpanKind } from '@opentelemetry/api';

export interface Telemetry {
  /** The metrics, in Prometheus' text format. */
  metricsText(): Promise<string>;
  close(): Promise<void>;
}

/** Logs and messages always carry trace ids. Spans are recorded and sent only where an OTLP endpoint is configured. */
export function startTelemetry(service: string, otlpEndpoint?: string): Telemetry {
  const resource = resourceFromAttributes({ 'service.name': `m2-${service}` });
  const spanProcessors = otlpEndpoint
    ? [
        new BatchSpanProcessor({
          exporter: new OTLPTraceExporter({ url: `${otlpEndpoint.replace(/\/$/, '')}/v1/traces` }),
        }),
      ]
    : [];
  // Without an endpoint nothing is recorded, but the ids for logs and messages are still made.
  const sampler = otlpEndpoint ? new ParentBasedSampler({ root: new AlwaysOnSampler() }) : new AlwaysOffSampler();
  const tracer = new TracerProvider({ resource, spanProcessors, sampler });
  trace.setGlobalTracerProvider(tracer);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const reader = new PrometheusExporter({ preventServerStart: true });
  const meter = new MeterProvider({ resource, readers: [reader] });
  metrics.setGlobalMeterProvider(meter);
  const serializer = new PrometheusSerializer();
  return {
    metricsText: async () => serializer.serialize((await reader.collect()).resourceMetrics),
    close: async () => {
      await tracer.shutdown();
      await meter.shutdown();
    },
  };
}

export const meter = (): Meter => metrics.getMeter('m2');

/** Runs `work` in a span of its own. The span ends with it and carries its error. */
export async function inSpan<T>(
  name: string,
  kind: SpanKind,
  work: (span: Span) => Promise<T>,
  parent: Context = context.active(),
): Promise<T> {
  const span = trace.getTracer('m2').startSpan(name, { kind }, parent);
  try {
    return await context.with(trace.setSpan(parent, span), () => work(span));
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
    throw error;
  } finally {
    span.end();
  }
}

/** W3C `traceparent` of the work under way, to be sent along or kept with an event. */
export function currentTraceparent(): string | undefined {
  const carrier: Record<string, string> = {};
  propagation.inject(context.active(), carrier);
  return carrier['traceparent'];
}

export const contextOf = (traceparent: string | undefined): Context =>
  traceparent ? propagation.extract(context.active(), { traceparent }) : context.active();

export const currentTraceId = (): string | undefined => trace.getSpanContext(context.active())?.traceId;
