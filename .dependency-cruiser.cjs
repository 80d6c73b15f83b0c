/**
 * Who may import whom: door → operation → contract → service → domain → port; a driver implements a port.
 * tools/boundaries.spec.ts shows that each rule bites.
 *
 * A path of ours is seen in two ways: as a file of this repository, and, where nothing is built, as the name `@m2/…`.
 */
const services = '(api-gateway|image-svc|iscsi-svc|boot-svc|hil-adapter)';
const tests = '\\.(spec|it|fixture|conformance)\\.ts$|/(testing|test|conformance)/';
/** One folder per driver: below the folder of its port, or among the backends of libs/storage. */
const driver =
  '(?:services/[^/]+/src/(?:targets|power|networks|switches)|libs/storage/src/backends)/(?!testing/|conformance/)[^/]+/';
/** The list of drivers that a package exports, for its module and for the benchmark, which measures the drivers alone. */
const driverExports = [
  '^(services/[^/]+|libs/storage)/src/drivers\\.ts$',
  '^libs/storage/dist/drivers\\.',
  '^@m2/storage/drivers$',
];
/** The files that may start a lab: the commands that show and measure M2 with one. */
const labCommands = '^apps/cli/src/(stage/|local/(demo|bench)\\.ts$)';

/** The rooms of the gateway, from its doors inwards. What stands in one line knows nothing of what stands above it. */
const gateway = '^services/api-gateway/src/';
const gatewayLayers = ['doors', 'use-cases', 'access', '(?:projects|provisions|events)', 'operations', 'sagas'];

module.exports = {
  forbidden: [
    {
      name: 'services-do-not-know-each-other',
      comment:
        'A service is asked over NATS, by the messages of @m2/contracts; else it could not be replaced or replicated alone.',
      severity: 'error',
      from: { path: `^services/${services}/` },
      to: { path: `^(services/${services}/|@m2/${services}(/|$))`, pathNot: '^(services|@m2)/$1' },
    },
    {
      name: 'services-share-two-libraries',
      comment: 'What services share is what they say (contracts) and their plumbing (service-kit).',
      severity: 'error',
      from: { path: '^services/' },
      to: { path: '^(apps/|@m2/(cli|supervisor)$)' },
    },
    {
      name: 'contracts-know-nothing-of-ours',
      comment: 'Everybody imports the contracts, so whatever they import, everybody does.',
      severity: 'error',
      from: { path: '^libs/contracts/' },
      to: { path: '^(services|apps|lab|e2e|faults|bench)/|^libs/(?!contracts/)|^@m2/' },
    },
    {
      name: 'service-kit-knows-the-contracts-only',
      comment: 'Every service is built on it, so it knows what services say to each other, and none of them.',
      severity: 'error',
      from: { path: '^libs/service-kit/' },
      to: { path: '^(services|apps|lab|e2e|faults|bench)/|^@m2/(?!contracts$)' },
    },
    {
      name: 'storage-knows-the-storage-only',
      comment: 'Its backends need the contracts, librbd, the storage daemon and locks, and nothing else of ours.',
      severity: 'error',
      from: { path: '^libs/storage/', pathNot: tests },
      to: {
        path: '^(services|apps|lab|e2e|faults|bench)/|^libs/(?!(storage|contracts|rbd|storage-daemon|locks)/)|^@m2/(?!(contracts|rbd|storage-daemon|locks)$)',
      },
    },
    {
      name: 'storage-is-for-image-svc',
      comment: 'Volumes have one owner; everybody else asks it by message.',
      severity: 'error',
      from: { path: '^(services/(?!image-svc/)|apps/|libs/(?!storage/))' },
      to: { path: '^libs/storage/|^@m2/storage(/|$)' },
    },
    {
      name: 'small-libraries-know-nothing-of-ours',
      comment: 'librbd, qemu-storage-daemon and locks are for whoever needs them.',
      severity: 'error',
      from: { path: '^libs/(rbd|storage-daemon|locks)/', pathNot: tests },
      to: {
        path: '^(services|apps|lab|e2e|faults|bench)/|^libs/|^@m2/',
        pathNot: '^libs/$1/',
      },
    },
    {
      name: 'the-saga-engine-knows-no-service',
      comment:
        'It runs lists of steps. What they are about, and who asks for them, is the business of who gives it the lists.',
      severity: 'error',
      from: { path: '^libs/saga/' },
      to: {
        path: '^(services|apps|lab|e2e|faults|bench)/|^@m2/(?!(contracts|service-kit)(/|$))|^node_modules/(@nestjs|fastify)/|^(@nestjs/|fastify$)',
      },
    },
    ...gatewayLayers.slice(1).map((layer, above) => ({
      name: 'the-gateway-points-inwards',
      comment:
        'door → use case → access → what the gateway keeps → operations → sagas. An arrow back makes one room of two.',
      severity: 'error',
      from: { path: `${gateway}${layer}/`, pathNot: tests },
      to: { path: `${gateway}(?:${gatewayLayers.slice(0, above + 1).join('|')})/` },
    })),
    {
      name: 'a-door-binds-use-cases',
      comment: 'It speaks a protocol. What is done, and who may, is the same at every door.',
      severity: 'error',
      from: { path: `${gateway}doors/([^/]+)/`, pathNot: tests },
      to: {
        path: `${gateway}|^libs/saga/|^@m2/saga$`,
        pathNot: `${gateway}(?:doors/$1/|use-cases/use-cases?\\.ts$|access/access\\.ts$)`,
      },
    },
    {
      name: 'no-lab-in-the-product',
      comment: 'The lab makes what a real site has. A product that needs it works nowhere else.',
      severity: 'error',
      from: { path: '^(services|libs|apps)/', pathNot: [labCommands, tests] },
      to: { path: '^(lab|e2e|faults|bench)/|^@m2/(lab|e2e|faults|bench)(/|$)' },
    },
    {
      name: 'the-command-line-speaks-rest',
      comment: 'What m2 can do, every program can: through the API, with a token.',
      severity: 'error',
      from: { path: '^apps/cli/', pathNot: tests },
      to: {
        path: `^services/|^libs/service-kit/|^@m2/(service-kit|${services})(/|$)|^node_modules/(@nats-io|@nestjs|pg|typeorm)/`,
      },
    },
    {
      name: 'the-supervisor-starts-programs',
      comment: 'It knows services by their programs and their environment, not by their code.',
      severity: 'error',
      from: { path: '^apps/supervisor/', pathNot: tests },
      to: { path: `^services/|^libs/service-kit/|^@m2/(service-kit|${services}|cli)(/|$)|^apps/cli/` },
    },
    {
      name: 'nobody-imports-a-driver',
      comment: 'Drivers are found through their port; only the module that wires a driver, and tests, know its name.',
      severity: 'error',
      from: { path: '^(services|libs)/', pathNot: [`^${driver}`, ...driverExports, '\\.module\\.ts$', tests] },
      to: { path: [`^${driver}`, ...driverExports] },
    },
    {
      name: 'drivers-do-not-know-each-other',
      comment: 'A driver can be replaced alone. What two of them need stands beside their port, or in a library.',
      severity: 'error',
      from: { path: `^(${driver})`, pathNot: tests },
      to: { path: [`^${driver}`, ...driverExports], pathNot: '^$1' },
    },
    {
      name: 'ports-and-drivers-know-no-framework',
      comment:
        'A port is what the domain needs, in its own words; a driver is one way to have it. Both outlive a framework.',
      severity: 'error',
      from: { path: ['\\.(port|domain)\\.ts$', '/domain/', `^${driver}`, '^libs/storage/'], pathNot: tests },
      to: {
        path: '^libs/service-kit/|^@m2/service-kit$|^node_modules/(@nestjs|typeorm|pg|@nats-io|fastify|rxjs|reflect-metadata)/|^(@nestjs/|typeorm$|pg$|@nats-io/|fastify$|rxjs$)',
      },
    },
    {
      name: 'no-cycles',
      comment: 'Files that import each other are one file in pieces.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '/dist/'] },
    // Imports of types count: knowing a shape is knowing.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.base.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'default'],
      extensions: ['.ts', '.js'],
    },
  },
};
