import { spawn } from 'node:child_process';

/** Limits of a qemu-img process, so that a crafted image cannot cost more. */
export interface QemuImgLimits {
  /** Address space in bytes. */
  addressSpace: number;
  /** CPU time; absent for a conversion, whose work grows with the image. */
  cpuSeconds?: number;
  /** The largest file that it may write, in bytes. */
  fileSize: number;
  /** Wall-clock time; without it only `signal` ends the run. */
  deadlineMs?: number;
}

export interface QemuImgResult {
  /** Null when a signal, a limit or the deadline ended it. */
  exitCode: number | null;
  stdout: string;
  stderr: string;
}

const maxOutput = 1 << 20;

/**
 * Runs qemu-img on an untrusted image in a process with limits and without this process's environment, which may have secrets. Callers give
 * the format explicitly, and absolute paths: "nbd:…" or "json:…" at the start of a relative name would be a protocol to QEMU. Rejects only
 * when it cannot be started or `signal` aborts.
 */
export function runQemuImg(
  args: readonly string[],
  limits: QemuImgLimits,
  options: { signal?: AbortSignal | undefined; onOutput?: (text: string) => void } = {},
): Promise<QemuImgResult> {
  const bounds = [`--as=${limits.addressSpace}`, `--fsize=${limits.fileSize}`, '--core=0', '--nofile=64'];
  if (limits.cpuSeconds !== undefined) bounds.push(`--cpu=${limits.cpuSeconds}`);
  return new Promise((resolve, reject) => {
    const child = spawn('prlimit', [...bounds, 'qemu-img', ...args], {
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      killSignal: 'SIGKILL',
      ...(options.signal && { signal: options.signal }),
      ...(limits.deadlineMs !== undefined && { timeout: limits.deadlineMs }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (options.onOutput) options.onOutput(text);
      else if (stdout.length < maxOutput) stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < maxOutput) stderr += text;
    });
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = error;
      if (child.pid === undefined) reject(error);
    });
    // Only after `close` nobody writes to the image any more: an aborted caller may delete it then.
    child.once('close', (exitCode) => (failure ? reject(failure) : resolve({ exitCode, stdout, stderr })));
  });
}
