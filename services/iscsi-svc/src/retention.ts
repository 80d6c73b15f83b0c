import type { BaseConfig, Expiring } from '@m2/service-kit';

/** Hosts that died and never came back under their names. */
export const iscsiExpiring = ({ retentionDays: days }: Pick<BaseConfig, 'retentionDays'>): Expiring[] => [
  { table: 'portal_hosts', since: 'seen_at', days },
];
