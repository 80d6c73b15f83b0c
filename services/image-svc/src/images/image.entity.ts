import type { Image } from '@m2/contracts';
import { Column, Entity, PrimaryColumn } from 'typeorm';

/** node-postgres hands bigint over as text; sizes stay far below 2^53. */
const bigint = {
  to: (value: number | null) => value,
  from: (value: string | null) => (value === null ? null : Number(value)),
};

@Entity('images')
export class ImageEntity {
  @PrimaryColumn('uuid') id!: string;
  @Column('uuid') project!: string;
  @Column('text') name!: string;
  @Column('text') state!: Image['state'];
  @Column('text') volume!: string;
  @Column('text', { nullable: true }) format!: Image['format'];
  @Column('bigint', { name: 'size_bytes', nullable: true, transformer: bigint }) sizeBytes!: number | null;
  @Column('text', { nullable: true }) sha256!: string | null;
  @Column('jsonb', { nullable: true }) progress!: Image['progress'];
  @Column('jsonb', { nullable: true }) error!: Image['error'];
  @Column('timestamptz', { name: 'created_at' }) createdAt!: Date;
}

export const toImage = (entity: ImageEntity): Image => ({
  id: entity.id,
  project: entity.project,
  name: entity.name,
  state: entity.state,
  format: entity.format,
  sizeBytes: entity.sizeBytes,
  sha256: entity.sha256,
  createdAt: entity.createdAt.toISOString(),
  progress: entity.progress,
  error: entity.error,
});
