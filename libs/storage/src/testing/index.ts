/** For the tests of packages that use a backend: a directory for one. */
export { temporaryPlace, type TestPlace } from '../backends/file/file-backend.fixture.js';
