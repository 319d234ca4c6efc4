/** Makes the file systems of a card and puts them into one file, without root, mounts or loop devices. */
import {
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { output, run } from './exec.mjs'

/** Packages of the host. */
export const DISK_PACKAGES = ['dosfstools', 'e2fsprogs', 'fdisk', 'mtools', 'zstd']

const MIB = 1 << 20
const SECTOR = 512
/** In MiB. Firmware and kernel need 100; a second kernel may be beside them. The data partition grows at the first start. */
const SIZES = { gap: 4, boot: 256, data: 64 }

/** Constants, so that the same files make the same bytes. */
const IDS = {
  disk: '0x6d64756c',
  boot: '4D45-4455',
  root: '6d656475-6c6c-4161-8000-000000000001',
  data: '6d656475-6c6c-4161-8000-000000000002',
}

/**
 * @param {string} file the image
 * @param {{ root: string, data: string, time: number }} content folders, and the latest time of any file in seconds
 */
export async function makeDisk(file, { root, data, time }) {
  const work = dirname(file)
  const boot = join(work, 'boot')
  // the firmware's partition is mounted over this folder
  renameSync(join(root, 'boot/firmware'), boot)
  mkdirSync(join(root, 'boot/firmware'))
  writeBootFiles(boot)
  const parts = [
    { type: 'c', bootable: true, file: fat(join(work, 'boot.fat'), boot, time) },
    {
      type: '83',
      file: ext4(join(work, 'root.ext4'), root, { label: 'medulla-root', uuid: IDS.root, time, readOnly: true }),
    },
    {
      type: '83',
      file: ext4(join(work, 'data.ext4'), data, { label: 'medulla-data', uuid: IDS.data, time, size: SIZES.data }),
    },
  ]
  let start = (SIZES.gap * MIB) / SECTOR
  const table = ['label: dos', `label-id: ${IDS.disk}`]
  for (const part of parts) {
    const sectors = statSync(part.file).size / SECTOR
    part.start = start
    table.push(`start=${start}, size=${sectors}, type=${part.type}${part.bootable ? ', bootable' : ''}`)
    start += sectors
  }
  writeFileSync(file, '')
  truncateSync(file, start * SECTOR)
  output('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', file], { input: `${table.join('\n')}\n` })
  for (const part of parts) {
    const seek = (part.start * SECTOR) / MIB
    run('dd', [`if=${part.file}`, `of=${file}`, 'bs=1M', `seek=${seek}`, 'conv=notrunc,sparse', 'status=none'])
    rmSync(part.file)
  }
}

function writeBootFiles(boot) {
  const cmdline = [
    'console=tty0 console=ttyS1,115200',
    'root=LABEL=medulla-root ro rootwait fsck.repair=yes',
    // as Debian's raspi-firmware writes it: wlan0 on every board, and memory for the GPU
    'net.ifnames=0 cma=64M',
    // Raspberry Pi's firmware turns the group off
    'cgroup_enable=memory',
    'panic=10 quiet',
  ]
  writeFileSync(join(boot, 'cmdline.txt'), `${cmdline.join(' ')}\n`)
}

function fat(file, folder, time) {
  const env = { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(time), MTOOLS_SKIP_CHECK: '1' }
  const id = IDS.boot.replace('-', '')
  rmSync(file, { force: true })
  run('mkfs.vfat', ['-C', '-F', '32', '-n', 'MEDULLA', '-i', id, '--invariant', file, String(SIZES.boot * 1024)], {
    env,
  })
  setTimes(folder, time)
  const names = readdirSync(folder).sort()
  run('mcopy', ['-s', '-m', '-Q', '-i', file, ...names.map((name) => join(folder, name)), '::'], { env })
  return file
}

function setTimes(folder, time) {
  for (const name of readdirSync(folder, { recursive: true })) utimesSync(join(folder, name), time, time)
}

function ext4(file, folder, { label, uuid, time, size, readOnly = false }) {
  const used = Number(output('du', ['--summarize', '--block-size=1M', folder]).split('\t')[0])
  // tables of inodes and blocks need a share
  const mebibytes = size ?? Math.ceil((used * 1.08 + 32) / 32) * 32
  const env = { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: String(time), E2FSPROGS_FAKE_TIME: String(time) }
  rmSync(file, { force: true })
  limitTimes(folder, time)
  run(
    'mke2fs',
    [
      '-q',
      ...['-t', 'ext4', '-d', folder, '-L', label, '-U', uuid, '-E', `hash_seed=${uuid},root_owner=0:0`],
      // a file system that nobody writes needs no journal
      ...(readOnly ? ['-O', '^has_journal', '-m', '0'] : ['-m', '1']),
      file,
      `${mebibytes}M`,
    ],
    { env },
  )
  // mke2fs copies from the folder when its files were changed and read: that differs from image to image
  const fields = usedInodes(file).flatMap((inode) =>
    ['atime', 'ctime'].map((name) => `sif <${inode}> ${name} @${time}\n`),
  )
  const commands = `${file}.commands`
  writeFileSync(commands, fields.join(''))
  output('debugfs', ['-w', '-f', commands, file], { env })
  rmSync(commands)
  return file
}

/** What was written while the image was made is as old as the newest file of the packages. */
function limitTimes(folder, time) {
  for (const path of ['', ...readdirSync(folder, { recursive: true })].map((name) => join(folder, name))) {
    if (lstatSync(path).mtimeMs > time * 1000) lutimesSync(path, time, time)
  }
}

/** The numbers of all inodes of an ext4 file system that have a file, from dumpe2fs(8). */
function usedInodes(file) {
  const text = output('dumpe2fs', [file])
  const count = Number(/^Inode count: +(\d+)$/m.exec(text)?.[1])
  const free = new Set()
  for (const [, list = ''] of text.matchAll(/^ +Free inodes: (.+)$/gm)) {
    for (const range of list.split(', ')) {
      const [first, last = first] = range.split('-').map(Number)
      for (let inode = first; inode <= last; inode++) free.add(inode)
    }
  }
  const ROOT_INODE = 2
  const FIRST_INODE = 11
  const all = Array.from({ length: count }, (_, index) => index + 1)
  return all.filter((inode) => (inode === ROOT_INODE || inode >= FIRST_INODE) && !free.has(inode))
}
