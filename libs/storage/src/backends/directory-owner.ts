import { stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { StorageError } from '../storage.port.js';

/**
 * Makes sure that one process, and one object in it, uses a state directory. The lock is the name of an abstract UNIX socket (unix(7)): the
 * kernel gives it to one process and frees it when that process dies in any way. A lock file would stay.
 */
export async function ownDirectory(directory: string): Promise<{ release(): Promise<void> }> {
  const { dev, ino } = await stat(directory);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new StorageError(
              'storage.in_use',
              `Another image-svc uses ${directory}. Stop it, or give each its own state directory.`,
            )
          : error,
      ),
    );
    server.listen({ path: `\0m2-file-backend-${dev}-${ino}` });
  });
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}
