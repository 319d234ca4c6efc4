/**
 * Makes the card image of a robot: `npm run image [-- --out DIR] [--package FILE]`, for a Raspberry Pi Zero 2 W, 3 or 4.
 *
 *   node pi-image/image.mjs packages    lists the packages of the host that this needs
 *   node pi-image/image.mjs cached      exits with 0 when the root file system is there, which takes 20 minutes to make
 *
 * DIR (dist/image) gets the image, compressed by zstd, its SHA256SUMS, the list of packages, and a bill of materials (CycloneDX).
 * The image has three partitions: FAT with the firmware, the kernel and medulla.toml; the read-only system; and the data of the
 * robot, which grows to the card's size at the first start. root/ is copied over Debian's files. --package names the .deb to install,
 * which is made otherwise.
 */
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makePackage, PACKAGES as PACKAGE_PACKAGES } from './package.mjs'
import { billOfMaterials, installedPackages } from './tools/bom.mjs'
import { requireCompiled, runTool, sayAs } from './tools/command.mjs'
import { requirePackages } from './tools/debian.mjs'
import { DISK_PACKAGES, makeDisk } from './tools/disk.mjs'
import { output, run, sourceDate } from './tools/exec.mjs'
import { hasRootFileSystem, inNamespace, ROOTFS_PACKAGES, rootFileSystem } from './tools/rootfs.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const HERE = fileURLToPath(new URL('.', import.meta.url))

/** Packages of the image, besides Debian's minimal system. */
export const IMAGE_PACKAGES = [
  // the system
  ...['dbus', 'e2fsprogs', 'initramfs-tools', 'kmod', 'linux-image-arm64', 'procps', 'systemd-sysv', 'udev', 'zstd'],
  // the card: firmware of the board, and tools that check it and make its data partition larger
  ...['dosfstools', 'fdisk', 'raspi-firmware'],
  // the network: firmware of the Wi-Fi chips of all models, mDNS (systemd-resolved), the time
  ...[
    'firmware-brcm80211',
    'iproute2',
    'iputils-ping',
    'openssh-server',
    'sudo',
    'systemd-resolved',
    'systemd-timesyncd',
  ],
  ...['wireless-regdb', 'wpasupplicant'],
  // the robot: Node.js, and tools that show lines and buses
  ...['gpiod', 'i2c-tools', 'nodejs'],
]

export const PACKAGES = [...new Set([...PACKAGE_PACKAGES, ...ROOTFS_PACKAGES, ...DISK_PACKAGES])].sort()

/** Boards with the BCM2837 or BCM2711 (Debian's 6.12 has neither SD card nor header pins of a Pi 5). */
const NAME = 'medulla'

/**
 * @param {string} out folder of the files
 * @param {string | undefined} given the .deb to install; made when undefined
 * @param {(text: string) => void} say called with a text about each step
 * @returns {Promise<string>} the compressed image
 * @throws {BuildError} when a tool is missing or fails, with what to do
 */
export async function makeImage(out, given, say) {
  requirePackages(PACKAGES)
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const tar = await rootFileSystem('arm64', IMAGE_PACKAGES, say)
  const work = mkdtempSync(join(tmpdir(), 'medulla-image-'))
  try {
    const deb = given ?? (await makePackage('arm64', work, say))
    say('installing the package in the root file system')
    const root = join(work, 'root')
    const data = join(work, 'data')
    for (const folder of [root, data]) mkdirSync(folder, { mode: 0o755 })
    // devices are the kernel's to make
    run('tar', ['--zstd', '-xf', tar, '-C', root, '--exclude=./dev/*'])
    cpSync(join(HERE, 'root'), root, { recursive: true })
    copyFileSync(deb, join(root, 'tmp/medulla.deb'))
    inNamespace(['sh', join(HERE, 'configure.sh'), root, data])

    say('making the file systems')
    const disk = join(work, `${NAME}-${version}-arm64.img`)
    await makeDisk(disk, { root, data, time: sourceDate(ROOT) })
    mkdirSync(out, { recursive: true })
    const file = join(out, `${basename(disk)}.zst`)
    say('compressing')
    run('zstd', ['-12', '--long=27', '-T0', '--force', '--quiet', disk, '-o', `${file}.part`])
    renameSync(`${file}.part`, file)
    const packages = installedPackages(root)
    const files = [
      [`${NAME}-${version}-arm64.packages`, packages.map(({ name, version: its }) => `${name} ${its}\n`).join('')],
      [`${NAME}-${version}-arm64.cdx.json`, billOfMaterials(root, { version, packages, time: sourceDate(ROOT) })],
    ]
    for (const [name, text] of files) writeFileSync(join(out, name), text)
    const names = [basename(file), ...files.map(([name]) => name)]
    writeFileSync(join(out, 'SHA256SUMS'), output('sha256sum', ['--', ...names], { cwd: out }))
    return file
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const say = sayAs('image')

async function main(args) {
  if (args[0] === 'cached') {
    process.exitCode = hasRootFileSystem('arm64', IMAGE_PACKAGES) ? 0 : 1
    return
  }
  const { values } = parseArgs({
    args,
    options: { out: { type: 'string', default: 'dist/image' }, package: { type: 'string' } },
  })
  requireCompiled(join(ROOT, 'dist/runtime/main.js'), 'npm run image')
  const file = await makeImage(resolve(ROOT, values.out), values.package, say)
  process.stdout.write(`${file}\n`)
  say(`${(statSync(file).size / 1e6).toFixed(0)} MB`)
}

await runTool(import.meta.url, { say, packages: PACKAGES, main })
