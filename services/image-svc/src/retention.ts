import type { BaseConfig, Expiring } from '@m2/service-kit';

/** What image-svc forgets by its age. */
export const imageExpiring = ({ retentionDays: days }: Pick<BaseConfig, 'retentionDays'>): Expiring[] => [
  { table: 'image_exports', since: 'created_at', days, unless: `r.state = 'running'` },
];
