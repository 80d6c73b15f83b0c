export * from './storage.port.js';
export { ImageError, type ImageErrorCode } from './formats/errors.js';
export { inspectImage, type ImageFormat, type InspectedImage, type InspectOptions } from './formats/inspect.js';
