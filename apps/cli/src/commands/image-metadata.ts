import { type Command, Option } from 'commander';

export interface MetadataOptions {
  os?: string;
  arch?: string;
  defaultUser?: string;
  userData?: boolean;
}

/** What Foreman's image model knows of an image. */
export const addMetadataOptions = (command: Command): Command =>
  command
    .addOption(new Option('--os <name>', 'operating system: "Debian 13"'))
    .addOption(new Option('--arch <name>', 'architecture: x86_64'))
    .addOption(new Option('--default-user <user>', 'who can log in'))
    .addOption(new Option('--user-data', 'it takes user data (cloud-init)'));

/** What of it was said; an empty text takes back what was said before. */
export function metadataOf({ os, arch, defaultUser, userData }: MetadataOptions) {
  const metadata = {
    ...(os !== undefined && { operatingSystem: os || null }),
    ...(arch !== undefined && { architecture: arch || null }),
    ...(defaultUser !== undefined && { defaultUser: defaultUser || null }),
    ...(userData !== undefined && { userData }),
  };
  return Object.keys(metadata).length > 0 ? metadata : undefined;
}
