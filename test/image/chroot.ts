/** A Debian 13 root file system in a folder, in which commands run as root of a user namespace. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

const NAMESPACE = fileURLToPath(new URL('../../pi-image/tools/namespace.sh', import.meta.url))
const ROOTFS = fileURLToPath(new URL('../../pi-image/tools/rootfs.mjs', import.meta.url))

export interface Chroot {
  folder: string
  /** Copies a file of the host into the folder, and returns its path inside. */
  copy(file: string): string
  run(...command: string[]): { status: number | null; stdout: string; stderr: string }
}

export function debian(packages: readonly string[]): Chroot {
  const tar = execFileSync(process.execPath, [ROOTFS, 'amd64', ...packages], { encoding: 'utf8' })
  const folder = mkdtempSync(join(tmpdir(), 'medulla-chroot-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const unpacked = spawnSync('tar', ['--zstd', '-xf', tar, '-C', folder, '--exclude=./dev/*'])
  if (unpacked.status !== 0) throw new Error(unpacked.stderr.toString())
  return {
    folder,
    copy(file) {
      copyFileSync(file, join(folder, 'tmp', basename(file)))
      return join('/tmp', basename(file))
    },
    run(...command) {
      const script = 'cd "$1"; shift; mount --rbind /dev dev; mount -t proc proc proc; exec chroot . "$@"'
      return spawnSync('sh', [NAMESPACE, 'sh', '-c', script, 'sh', folder, ...command], {
        encoding: 'utf8',
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
      })
    },
  }
}
