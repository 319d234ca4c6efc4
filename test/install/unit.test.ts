/** The units as systemd itself judges them. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ROOT } from '../project/tree.ts'

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0
const MOST_EXPOSURE = 3.0

function copied(): string {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-unit-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  for (const name of ['medulla.service', 'medulla.socket', 'medulla-discovery.socket'])
    copyFileSync(join(ROOT, 'runtime', name), join(folder, name))
  return folder
}

test.runIf(hasSystemd)('systemd-analyze finds the exposure of the service at most 3.0', () => {
  const args = ['security', '--offline=true', '--no-pager', join(copied(), 'medulla.service')]
  const { stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
  const [, exposure] = /Overall exposure level for medulla\.service: ([\d.]+)/.exec(stdout) ?? []
  expect(Number(exposure), stderr).toBeLessThanOrEqual(MOST_EXPOSURE)
})

/** What the comment of the unit that explains an exposure names. */
const NAMED: Readonly<Record<string, string>> = {
  RootDirectoryOrRootImage: 'RootDirectory=',
  UserOrDynamicUser: 'User=',
  PrivateUsers: 'PrivateUsers=',
  PrivateDevices: 'PrivateDevices=',
  DeviceAllow: 'DeviceAllow=',
  MemoryDenyWriteExecute: 'MemoryDenyWriteExecute=',
  RestrictRealtime: 'RestrictRealtime=',
  Delegate: 'Delegate=',
  ProcSubset: 'ProcSubset=',
  RestrictAddressFamilies_AF_UNIX: 'AF_UNIX',
  SystemCallFilter_resources: '@resources',
  SystemCallFilter_privileged: '@privileged',
  SystemCallFilter_mount: '@mount',
  CapabilityBoundingSet_CAP_KILL: 'CAP_KILL',
  CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER: 'CAP_DAC_OVERRIDE CAP_FOWNER',
  CapabilityBoundingSet_CAP_CHOWN_FSETID_SETFCAP: 'CAP_CHOWN',
  CapabilityBoundingSet_CAP_SET_UID_GID_PCAP: 'CAP_SETUID CAP_SETGID CAP_SETPCAP',
  CapabilityBoundingSet_CAP_SYS_ADMIN: 'CAP_SYS_ADMIN',
  CapabilityBoundingSet_CAP_SYS_CHROOT: 'CAP_SYS_CHROOT',
  CapabilityBoundingSet_CAP_SYS_NICE_RESOURCE: 'CAP_SYS_NICE',
}

test.runIf(hasSystemd)('each exposure that is left is explained in the unit', () => {
  const file = join(copied(), 'medulla.service')
  const { stdout } = spawnSync('systemd-analyze', ['security', '--offline=true', '--json=short', file], { encoding: 'utf8' }) // biome-ignore format: one call
  const exposed = (JSON.parse(stdout) as { exposure: string | null; json_field: string }[])
    .filter(({ exposure }) => Number(exposure ?? 0) > 0)
    .map(({ json_field }) => (json_field.startsWith('RestrictNamespaces') ? 'RestrictNamespaces' : json_field))
  const [, reasons = ''] = readFileSync(file, 'utf8').split('# What is left, as ')
  const unexplained = [...new Set(exposed)].filter((field) => !reasons.includes(NAMED[field] ?? `${field}=`))
  expect(unexplained).toEqual([])
  expect(exposed.length).toBeGreaterThan(10)
})

/** test/image/virt.image.ts has the same with a running systemd. */
test('HANDOVER 16.9: no socket that stops with the service is required by it: a bite of the watchdog would end it for good', () => {
  const folder = copied()
  const service = readFileSync(join(folder, 'medulla.service'), 'utf8')
  for (const name of ['medulla.socket', 'medulla-discovery.socket']) {
    expect(readFileSync(join(folder, name), 'utf8')).toContain('\nStopPropagatedFrom=medulla.service\n')
    expect(service).not.toMatch(new RegExp(`^(Requires|BindsTo|Requisite)=.*${name}`, 'm'))
    expect(service).toMatch(new RegExp(`^Wants=.*${name}`, 'm'))
  }
  expect(service).toContain('\nExecStartPre=/usr/bin/systemctl is-active --quiet medulla.socket\n')
})

test.runIf(hasSystemd)('systemd takes both units without a warning, but for lines of newer versions', () => {
  const folder = copied()
  const args = ['verify', '--man=no', '--recursive-errors=no', join(folder, 'medulla.service'), join(folder, 'medulla.socket'), join(folder, 'medulla-discovery.socket')] // biome-ignore format: one list
  const { stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
  // the program of the unit is that of an installation
  const expected = /Unknown key '?(?:DelegateSubgroup|RestartMode)|Command \S+ is not executable|^\s*$/
  const ours = stderr.split('\n').filter((line) => line.includes('medulla') && !expected.test(line))
  expect(ours).toEqual([])
})
