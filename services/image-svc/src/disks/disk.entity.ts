import type { Disk } from '@m2/contracts';
import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('disks')
export class DiskEntity {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') project!: string;
  @Column('text') name!: string;
  @Column('text') state!: Disk['state'];
  @Column('text') volume!: string;
  @Column('uuid') image!: string;
  /** node-postgres hands bigint over as text. */
  @Column('bigint', { name: 'size_bytes', transformer: { to: (value: number) => value, from: Number } })
  sizeBytes!: number;
  @Column('uuid', { nullable: true }) holder!: string | null;
  @Column('timestamptz', { name: 'created_at' }) createdAt!: Date;
}

export const toDisk = (entity: DiskEntity): Disk => ({
  id: entity.id,
  project: entity.project,
  name: entity.name,
  state: entity.state,
  image: entity.image,
  volume: entity.volume,
  sizeBytes: entity.sizeBytes,
  holder: entity.holder,
  createdAt: entity.createdAt.toISOString(),
});
