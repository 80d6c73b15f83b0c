/** For the tests of whoever uses a backend: a place for one. */
export { temporaryPlace, type TestPlace } from '../backends/file/file-backend.fixture.js';
