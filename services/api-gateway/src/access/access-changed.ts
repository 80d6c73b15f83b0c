import type { Kit } from '@m2/service-kit';

/** Heard by all replicas: somebody may have lost a permission. Nothing is said of whom, and a lost message only costs time. */
export const accessChanged = { subject: 'm2.live.access' };

export const tellAccessChanged = ({ bus }: Pick<Kit, 'bus'>): void => bus.tell(accessChanged, {});
