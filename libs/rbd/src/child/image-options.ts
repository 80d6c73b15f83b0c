import koffi from 'koffi';
import { featureNames, type Feature, type ImageOptions } from '../types.ts';
import { NativeError, type Out, type Pointer } from './native.ts';

const library = koffi.load('librbd.so.1');
const create = library.func('void rbd_image_options_create(_Out_ void **options)') as (
  options: Out<Pointer | null>,
) => void;
const setNumber = library.func('int rbd_image_options_set_uint64(void *options, int name, uint64_t value)') as (
  options: Pointer,
  name: number,
  value: number,
) => number;
const destroy = library.func('void rbd_image_options_destroy(void *options)') as (options: Pointer) => void;

/** RBD_IMAGE_OPTION_… of rbd/librbd.h. */
const optionNames = { features: 1, order: 2, cloneFormat: 12 };

const defaults = {
  objectBytes: 2 ** 20,
  features: ['layering', 'exclusive-lock', 'object-map', 'fast-diff'],
} satisfies ImageOptions;

/** Runs `work` with the options in librbd's form; `cloneFormat` is for clones only. */
export async function withImageOptions<T>(
  wanted: ImageOptions & { cloneFormat?: number },
  work: (options: Pointer) => Promise<T>,
): Promise<T> {
  const { cloneFormat, objectBytes = defaults.objectBytes, features = defaults.features } = wanted;
  const order = Math.log2(objectBytes);
  if (!Number.isInteger(order)) throw new NativeError('rbd_image_options_set_uint64', koffi.os.errno['EINVAL']!);
  const memory: Out<Pointer | null> = [null];
  create(memory);
  const options = memory[0]!;
  try {
    setNumber(options, optionNames.features, featureBits(features));
    setNumber(options, optionNames.order, order);
    if (cloneFormat !== undefined) setNumber(options, optionNames.cloneFormat, cloneFormat);
    return await work(options);
  } finally {
    destroy(options);
  }
}

/** Feature n of the list is bit n in rbd/features.h. */
function featureBits(features: Feature[]): number {
  return features.reduce((bits, feature) => bits + 2 ** featureNames.indexOf(feature), 0);
}

export function featuresOf(bits: number): Feature[] {
  return featureNames.filter((_, bit) => Math.floor(bits / 2 ** bit) % 2 === 1);
}
