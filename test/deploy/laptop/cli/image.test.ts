/** `medulla image`: settings in a card image, as the robot's first start reads them. */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { verifyCertificate } from '../../../../deploy/shared/cert.ts'
import { applySettings } from '../../../../runtime/card/apply.ts'
import { newSigner } from '../../../fixtures/bundles.ts'
import { CLI, type Ended, Laptop } from './medulla.ts'

const MIB = 1 << 20
const START_MIB = 4
const isMissing = (tool: string) =>
  spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`]).status !== 0
const missing = ['mcopy', 'mkfs.vfat', 'sfdisk', 'zstd'].filter(isMissing)
const noTools = missing.length === 0 ? '' : ` (skipped: no ${missing.join(', ')})`

let laptop: Laptop
beforeEach(() => {
  laptop = new Laptop()
})
afterEach(() => laptop.close())

/** A card with the partition table, the FAT partition and the kernel's command line of pi-image/tools/disk.mjs. */
function card(name: string, cmdline = 'console=tty0 root=LABEL=medulla-root ro'): string {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, MTOOLS_SKIP_CHECK: '1' }
  const path = join(laptop.dir, name)
  const fat = join(laptop.dir, 'fat')
  execFileSync('mkfs.vfat', ['-C', '-F', '32', '-n', 'MEDULLA', fat, String(40 * 1024)], { env, stdio: 'pipe' })
  execFileSync('mcopy', ['-i', fat, '-', '::cmdline.txt'], { env, input: `${cmdline}\n` })
  writeFileSync(path, '')
  truncateSync(path, 64 * MIB)
  const table = `label: dos\nstart=${START_MIB}MiB, size=40MiB, type=c, bootable\nstart=44MiB, type=83\n`
  execFileSync('sfdisk', ['--quiet', path], { env, input: table })
  execFileSync('dd', [`if=${fat}`, `of=${path}`, 'bs=1M', `seek=${START_MIB}`, 'conv=notrunc,sparse', 'status=none'])
  rmSync(fat)
  return path
}

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

/** Runs `medulla image` with this text on stdin, as a pipe. */
function image(input: string, ...args: string[]): Ended {
  const env = {
    PATH: process.env.PATH,
    HOME: laptop.dir,
    MEDULLA_CONFIG: join(laptop.dir, 'config'),
    LANG: 'de_DE.UTF-8',
  }
  return spawnSync(process.execPath, [CLI, 'image', ...args], { cwd: laptop.dir, env, input, encoding: 'utf8' })
}

/** The FAT partition as a folder: what the robot mounts as /boot/firmware. */
function mounted(path: string) {
  const boot = mkdtempSync(join(laptop.dir, 'boot-'))
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' }
  execFileSync('mcopy', ['-s', '-i', `${path}@@${START_MIB * MIB}`, '::*', boot], { env })
  return boot
}

test.skipIf(noTools !== '')(
  `the robot's first start applies what medulla image wrote: owner, board, name, Wi-Fi${noTools}`,
  async () => {
    await laptop.run('keygen')
    const board = JSON.stringify({ model: 'pi4', handles: { led: { kind: 'output', line: 'GPIO17' } } })
    writeFileSync(join(laptop.dir, 'my arm.json'), board)
    const login = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDummyDummyDummyDummyDummyDummyDummyDummy pi'
    writeFileSync(join(laptop.dir, 'pi.pub'), `${login}\n`)
    const path = card('arm.img')
    const done = image(
      'password\n',
      '--board',
      'my arm.json',
      '--hostname',
      'arm',
      '--wifi',
      'IEEE',
      '--hidden',
      '--ssh',
      'pi.pub',
      'arm.img',
    )
    expect(done, done.stderr).toMatchObject({ status: 0 })
    expect(done.stdout).toMatch(/^owner {4}ssh-ed25519 AAAA\S+$/m)
    expect(done.stdout).toContain('Wi-Fi    IEEE, country DE')
    // the password itself is nowhere: not in what the command prints, not in the image
    expect(`${done.stdout}${done.stderr}`).not.toContain('password"')
    expect(readFileSync(path).includes('"password"\n')).toBe(false)

    const boot = mounted(path)
    const places = { boot, data: join(laptop.dir, 'data'), home: join(laptop.dir, 'home') }
    const { applied, report } = await applySettings(places)
    expect(report.join('\n')).toContain('is owner of this robot')
    expect(applied).toBe(true)
    expect(readFileSync(join(places.data, 'etc/hostname'), 'utf8')).toBe('arm\n')
    // the key that IEEE 802.11-2020, annex J.4.2, gives for this password and network
    const key = 'f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e'
    expect(readFileSync(join(places.data, 'etc/wpa_supplicant.conf'), 'utf8')).toContain(`psk=${key}\n`)
    expect(readFileSync(join(places.data, 'etc/authorized_keys'), 'utf8')).toContain('Dummy pi\n')
    expect(readFileSync(join(places.home, 'board.json'), 'utf8')).toBe(board)

    // a second time only when asked to, and nothing else of the image changes
    const before = readFileSync(path).subarray(44 * MIB)
    const again = image('', 'arm.img')
    expect(again).toMatchObject({ status: 2 })
    expect(again.stderr).toContain('--replace')
    expect(image('', '--replace', '--hostname', 'leg', 'arm.img')).toMatchObject({ status: 0 })
    expect(readFileSync(join(mounted(path), 'medulla.toml'), 'utf8')).toContain('hostname = "leg"')
    expect(
      readFileSync(path)
        .subarray(44 * MIB)
        .equals(before),
    ).toBe(true)
  },
)

test.skipIf(noTools !== '')(
  `--from unpacks an image that only this user may read, or leaves no file${noTools}`,
  async () => {
    await laptop.run('keygen')
    execFileSync('zstd', ['--quiet', '--rm', card('medulla.img')])
    expect(image('', '--from', 'medulla.img.zst', 'arm.img')).toMatchObject({ status: 0 })
    expect(statSync(join(laptop.dir, 'arm.img')).mode & 0o777).toBe(0o600)
    expect(mounted(join(laptop.dir, 'arm.img'))).toBeTruthy()
    // never over a file that is there
    expect(image('', '--from', 'medulla.img.zst', 'arm.img').stderr).toContain('arm.img is there already')
    writeFileSync(join(laptop.dir, 'cut.img.zst'), readFileSync(join(laptop.dir, 'medulla.img.zst')).subarray(0, 300))
    expect(image('', '--from', 'cut.img.zst', 'leg.img').status).not.toBe(0)
    expect(readdirSync(laptop.dir).filter((name) => name.startsWith('leg'))).toEqual([])
  },
)

test.skipIf(noTools !== '')(
  `another file, a wrong setting or a missing country is refused, and the image stays as it is${noTools}`,
  async () => {
    await laptop.run('keygen')
    const path = card('arm.img')
    const other = card('other.img', 'console=tty0 root=PARTUUID=1234')
    writeFileSync(join(laptop.dir, 'text.img'), 'no image')
    const before = [path, other].map(sha256)
    const refused = (says: string, ...args: string[]) => {
      const { status, stderr } = image('password', ...args)
      expect(stderr).toContain(says)
      expect(status).toBe(2)
    }
    refused('is not a card image of Medulla: its first partition is not that of a Medulla card', 'other.img')
    refused('is not a card image of Medulla: it has no partition table', 'text.img')
    refused('expected at most 63 of a-z, 0-9 and -', '--hostname', 'Arm 1', 'arm.img')
    refused('expected two letters', '--wifi', 'IEEE', '--country', 'Germany', 'arm.img')
    refused('expected an ed25519 key', '--operator', 'ssh-rsa AAAA', 'arm.img')
    expect(image('short', '--wifi', 'IEEE', 'arm.img').stderr).toContain('8 to 63 characters, this one has 5')
    writeFileSync(join(laptop.dir, 'wrong.json'), '{"model":"pi4","handles":{"led":{"kind":"outputs"}}}')
    expect(image('', '--board', 'wrong.json', 'arm.img').stderr).toContain('outputs')
    expect(image('', 'none.img').stderr).toContain('medulla image --from')
    expect([path, other].map(sha256)).toEqual(before)
  },
)

test('the JSON schema in pi-image/ is that of medulla image --schema', async () => {
  const { stdout } = await laptop.run('image', '--schema')
  expect(JSON.parse(readFileSync('pi-image/medulla.schema.json', 'utf8'))).toEqual(JSON.parse(stdout))
})

test.skipIf(noTools !== '')(
  `BUNDLE 19.1: --program signs a program for the first start, and refuses one that the robot would refuse; --replace without it removes it${noTools}`,
  async () => {
    await laptop.run('keygen')
    card('arm.img')
    const board = JSON.stringify({ model: 'pi4', handles: { led: { kind: 'output', line: 'GPIO17' } } })
    writeFileSync(join(laptop.dir, 'board.json'), board)
    const program = (needs: string) =>
      `import { robot } from 'medulla'\nrobot({ needs: ${needs}, run: ({ every }) => every(20, () => {}) })\n`
    writeFileSync(join(laptop.dir, 'blink.mjs'), program("{ led: 'output' }"))
    writeFileSync(join(laptop.dir, 'wave.mjs'), program("{ arm: 'servo' }"))
    const done = image('', '--board', 'board.json', '--program', 'blink.mjs', 'arm.img')
    expect(done, done.stderr).toMatchObject({ status: 0 })
    expect(done.stdout).toContain('arm.img: wrote board.json, program.tar, medulla.toml')
    expect(done.stdout).toMatch(/^program {2}\S+ 0\.0\.0, at the first start$/m)

    expect(done.stdout).toMatch(/^name {5}medulla, at medulla\.local$/m)

    const boot = mounted(join(laptop.dir, 'arm.img'))
    const home = join(laptop.dir, 'home')
    const { report } = await applySettings({ boot, data: join(laptop.dir, 'data'), home })
    expect(report.at(-1)).toMatch(/^\S+ 0\.0\.0 is started first, unless this robot has had a program already$/)
    expect(statSync(join(home, 'first-program.tar')).size).toBeGreaterThan(1000)
    expect(verifyCertificate(JSON.parse(readFileSync(join(boot, 'robot.json'), 'utf8'))).name).toBe('medulla')
    // a byte that was changed on the card
    const changed = readFileSync(join(boot, 'program.tar'))
    changed.writeUInt8(changed.readUInt8(700) ^ 1, 700)
    writeFileSync(join(boot, 'program.tar'), changed)
    expect(await applySettings({ boot, data: join(laptop.dir, 'data'), home })).toMatchObject({ applied: false })

    const without = image('', '--replace', '--board', 'board.json', 'arm.img')
    expect(without.stdout).toContain('arm.img: wrote board.json, medulla.toml\narm.img: removed program.tar\n')
    expect(readdirSync(mounted(join(laptop.dir, 'arm.img')))).toEqual(expect.not.arrayContaining(['program.tar']))
    expect(image('', '--replace', 'arm.img').stdout).toContain('arm.img: removed board.json\n')
    expect(image('', '--replace', 'arm.img').stdout).not.toContain('removed')

    const wrong = image('', '--replace', '--board', 'board.json', '--program', 'wave.mjs', 'arm.img')
    expect(wrong.stderr).toContain("program needs servo 'arm', this board has: led")
    const boardless = image('', '--replace', '--program', 'blink.mjs', 'arm.img')
    expect(boardless.stderr).toContain('name its board file: --board FILE')
    const token =
      "import { robot } from 'medulla'\nrobot({ needs: {}, config: ['TOKEN'], run: ({ every }) => every(20, () => {}) })\n"
    writeFileSync(join(laptop.dir, 'post.mjs'), token)
    const unset = image('', '--replace', '--program', 'post.mjs', 'arm.img')
    expect(unset.stderr).toContain('the program needs TOKEN, and config values are set on a robot that is there')
    expect(unset.stderr).toContain('medulla config set TOKEN, then medulla push')
    const { publicKey } = newSigner()
    const other = image('', '--replace', '--operator', publicKey, '--program', 'blink.mjs', 'arm.img')
    expect(other.stderr).toContain('your key signs the program, and another one is to own the robot')
  },
)
