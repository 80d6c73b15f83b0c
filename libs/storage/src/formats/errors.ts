export type ImageErrorCode =
  | 'image.checksum_mismatch'
  | 'image.encrypted'
  | 'image.format_mismatch'
  | 'image.has_backing_file'
  | 'image.not_an_image'
  | 'image.source_forbidden'
  | 'image.source_unreachable'
  | 'image.too_large'
  | 'image.truncated'
  | 'image.unsupported_format';

/** Why an image cannot be fetched or used: a stable code, and a sentence that ends with what to do. */
export class ImageError extends Error {
  override readonly name = 'ImageError';

  constructor(
    readonly code: ImageErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
