import { calls, callsOf, eventsOf } from './catalogue.js';
import { diskReattached } from './disk.js';
import { projectDeleted } from './gateway.js';
import { type EventContract, eventStream, type ServiceName, serviceNames } from './message.js';

/**
 * Who takes in which events, by which durable consumer. A durable that is not here is refused by the server: subjects have no
 * wildcard inside a token, so "every durable whose name starts with mine" cannot be said.
 */
export const durables: Record<ServiceName, readonly { durable: string; of: EventContract | 'all' }[]> = {
  gateway: [{ durable: 'gateway-audit', of: 'all' }],
  image: [{ durable: 'image-projects', of: projectDeleted }],
  iscsi: [{ durable: 'iscsi-reattached', of: diskReattached }],
  boot: [],
  hil: [],
};

/** Live progress: kept by nobody, heard by the gateway. */
const live = 'm2.live.>';
const tellsLive = new Set<ServiceName>(['gateway']);

/** Where a service announces that it takes calls. */
export const arrivalOf = (service: ServiceName): string => `m2.live.service.${service}`;

/** Where a service gets its answers. */
export const natsInbox = (service: ServiceName): string => `_INBOX_${service}`;

export interface NatsPermissions {
  publish: string[];
  subscribe: string[];
}

/** The subjects of one service: what it may send, and what it may hear. Everything else is refused by the server. */
export function natsPermissions(service: ServiceName): NatsPermissions {
  return {
    publish: [
      ...calls.filter((call) => call.callers.includes(service)).map((call) => call.subject),
      ...(eventsOf(service).length > 0 ? [`m2.evt.${service}.>`] : []),
      ...(tellsLive.has(service) ? [live] : [arrivalOf(service)]),
      // One service makes the stream, the others wait for it: whoever may create streams may also capture any subject.
      ...(service === 'gateway'
        ? ['INFO', 'CREATE', 'UPDATE'].map((verb) => `$JS.API.STREAM.${verb}.${eventStream}`)
        : []),
      ...durables[service].flatMap(({ durable, of }) => [
        // The filter is part of the subject, so a service cannot widen what its consumer takes in.
        `$JS.API.CONSUMER.CREATE.${eventStream}.${durable}.${of === 'all' ? 'm2.evt.>' : of.subject}`,
        `$JS.API.CONSUMER.INFO.${eventStream}.${durable}`,
        `$JS.API.CONSUMER.MSG.NEXT.${eventStream}.${durable}`,
        `$JS.ACK.${eventStream}.${durable}.>`,
      ]),
    ],
    subscribe: [
      ...['cmd', 'qry'].map((kind) => `m2.${kind}.${service}.>`),
      `${natsInbox(service)}.>`,
      ...(service === 'gateway' ? [live] : []),
      // Who asks a service hears when it has come back: what it owed before, it will not answer. Never what it says itself: whoever
      // hears a message may answer it, wherever that asks for.
      ...serviceNames
        .filter((other) => calls.some((call) => call.service === other && call.callers.includes(service)))
        .map(arrivalOf),
    ],
  };
}

/** The variable of the server's configuration that holds the password of a service's user. */
export const natsPasswordVariable = (service: ServiceName): string => `M2_NATS_PASSWORD_${service.toUpperCase()}`;

/**
 * How long a service may take to answer a command: as long as the server keeps its right to publish to the asker's inbox. The
 * server's default of two minutes would silently drop the answer of a BMC that is slow to power a node off.
 */
const answerWithin = '12h';

/**
 * Only who is asked may answer: it lets a service publish wherever a message that it hears says. The server keeps the right for each message that asks
 * for an answer, an event that wants its acknowledgement included, and from 4,096 of them on looks through all with each message that it delivers.
 */
const answers = (service: ServiceName) =>
  callsOf(service).length > 0 ? `\n        allow_responses: { max: 1, expires: "${answerWithin}" }` : '';

const list = (subjects: string[]) => `[\n${subjects.map((subject) => `          "${subject}"\n`).join('')}        ]`;

const user = (service: ServiceName) => {
  const { publish, subscribe } = natsPermissions(service);
  return `    {
      user: "m2-${service}"
      password: $${natsPasswordVariable(service)}
      permissions: {
        publish: { allow: ${list(publish)} }
        subscribe: { allow: ${list(subscribe)} }${answers(service)}
      }
    }`;
};

/**
 * The configuration of a NATS server (2.9's syntax) with one account, one user per service and their permissions. The passwords are
 * variables (`natsPasswordVariable`), set in the file `include` names, relative to the configuration; so this text holds no secret.
 */
export function natsConfig(options: { listen: string; storeDirectory: string; include: string }): string {
  return `# Generated from the catalogue of messages: see libs/contracts/src/nats-permissions.ts.
server_name: "m2"
listen: ${JSON.stringify(options.listen)}
include ${JSON.stringify(options.include)}
# A machine that boots many nodes is busy; a client that is slow to log in is no attack.
authorization { timeout: 10 }
# A process that stands still is given no calls any more after 12 s, before the others count it as gone (15 s) and have its calls asked again.
ping_interval: "4s"
ping_max: 2
# Without a fixed size the server takes what is free when it starts: nothing, on a full disk, and then for ever.
jetstream { store_dir: ${JSON.stringify(options.storeDirectory)}, max_file_store: 1GB, max_memory_store: 64MB }
accounts {
  M2: {
    jetstream: enabled
    users: [
${serviceNames.map(user).join('\n')}
    ]
  }
}
`;
}

/** The file that `natsConfig` includes: it is the secret part. Passwords of letters and digits only. */
export function natsPasswords(passwords: Record<ServiceName, string>): string {
  return serviceNames
    .map((service) => `${natsPasswordVariable(service)}: ${JSON.stringify(passwords[service])}\n`)
    .join('');
}
