/**
 * Makes root file systems of Debian 13 with mmdebstrap, for this computer's architecture or for arm64, as root but without loop
 * devices. A root file system is kept in the cache under a key of its package list: removing the folder fetches newer versions.
 *
 *   node pi-image/tools/rootfs.mjs ARCHITECTURE PACKAGE...    prints the archive's name, for tests
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { debianRelease, mirror } from './debian.mjs'
import { BuildError } from './error.mjs'
import { cacheFolder, key, run, wholeOrNot } from './exec.mjs'

const NAMESPACE = fileURLToPath(new URL('namespace.sh', import.meta.url))
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const COMPONENTS = 'main non-free-firmware'

/** Packages of the host. */
export const ROOTFS_PACKAGES = ['debian-archive-keyring', 'mmdebstrap', 'qemu-user-static', 'util-linux', 'zstd']

/** Neither manuals nor languages; licences stay. */
const LEFT_OUT = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
]

/** The time of every file that Debian's tools make themselves: 2026-01-01. */
export const EPOCH = 1_767_225_600

/** @throws {BuildError} when the command fails */
export function inNamespace(command, options = {}) {
  if (process.getuid() !== 0) throw new BuildError('root is needed, for a namespace with all users', 'sudo npm run …')
  run('sh', [NAMESPACE, ...command], options)
}

/**
 * @param {'amd64' | 'arm64'} architecture
 * @param {string[]} packages besides Debian's minimal system
 * @param {(text: string) => void} say called when it has to be made
 * @returns {Promise<string>} a tar archive, compressed by zstd
 */
export async function rootFileSystem(architecture, packages, say) {
  const folder = rootFolder(architecture, packages)
  await wholeOrNot(folder, (beside) => {
    const time = architecture === 'arm64' ? '15 to 20 minutes: arm64 programs are emulated' : 'a minute'
    say(`making a root file system of Debian 13 for ${architecture} (${time})`)
    const site = mirror(debianRelease(['bookworm', 'trixie']))
    const security = site.replace(/\/debian\/?$/, '/debian-security')
    const suites = [
      [site, 'trixie'],
      [site, 'trixie-updates'],
      [security, 'trixie-security'],
    ]
    inNamespace(
      [
        'mmdebstrap',
        '--mode=root',
        '--variant=minbase',
        `--architectures=${architecture}`,
        // it looks for the emulator in the host's own binfmt_misc
        '--skip=check/qemu',
        '--aptopt=APT::Install-Recommends "false"',
        ...LEFT_OUT.map((option) => `--dpkgopt=${option}`),
        `--include=${packages.join(',')}`,
        'trixie',
        join(beside, 'root.tar.zst'),
        ...suites.map(([address, suite]) => `deb [signed-by=${KEYRING}] ${address} ${suite} ${COMPONENTS}`),
      ],
      { env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(EPOCH) } },
    )
  })
  return join(folder, 'root.tar.zst')
}

/** Whether this computer has the root file system already, which takes long to make. */
export const hasRootFileSystem = (architecture, packages) => existsSync(rootFolder(architecture, packages))

function rootFolder(architecture, packages) {
  return join(cacheFolder('medulla'), `root-${architecture}-${key([COMPONENTS, ...LEFT_OUT, ...packages])}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [architecture, ...packages] = process.argv.slice(2)
  process.stdout.write(
    await rootFileSystem(architecture, packages, (text) => process.stderr.write(`rootfs: ${text}\n`)),
  )
}
