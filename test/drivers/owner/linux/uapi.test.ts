import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  CHIP_INFO_SIZE,
  decodeChipInfo,
  decodeLineEvent,
  decodeLineInfo,
  encodeLineRequest,
  GPIO_GET_CHIPINFO_IOCTL,
  GPIO_V2_GET_LINE_IOCTL,
  GPIO_V2_GET_LINEINFO_IOCTL,
  LINE_EVENT_SIZE,
  LINE_FLAG,
  LINE_INFO_SIZE,
  LINE_REQUEST_SIZE,
  lineInfoOf,
  requestedFd,
} from '../../../../drivers/owner/linux/uapi.ts'
import {
  GPIO_V2_LINE_GET_VALUES_IOCTL,
  GPIO_V2_LINE_SET_VALUES_IOCTL,
  lineValues,
} from '../../../../drivers/program/inherit/line.ts'
import { temporary } from '../../host.ts'

const folder = temporary()
afterAll(() => folder.remove())

const HEADER = '/usr/include/linux/gpio.h'
const canCompile = existsSync(HEADER) && spawnSync('gcc', ['--version']).status === 0

/** Filled structures as a C compiler lays them out with the kernel's header, in hexadecimal. */
const PROGRAM = `
#include <linux/gpio.h>
#include <stdio.h>
#include <string.h>
static void show(const char *name, const void *bytes, unsigned size) {
  printf("%s=", name);
  for (unsigned i = 0; i < size; i++) printf("%02x", ((const unsigned char *)bytes)[i]);
  printf("\\n");
}
int main(void) {
  printf("chip=%x\\nline=%x\\ninfo=%x\\nget=%x\\nset=%x\\n", (unsigned)GPIO_GET_CHIPINFO_IOCTL,
    (unsigned)GPIO_V2_GET_LINE_IOCTL, (unsigned)GPIO_V2_GET_LINEINFO_IOCTL,
    (unsigned)GPIO_V2_LINE_GET_VALUES_IOCTL, (unsigned)GPIO_V2_LINE_SET_VALUES_IOCTL);
  unsigned long long flags[] = {
    GPIO_V2_LINE_FLAG_USED, GPIO_V2_LINE_FLAG_ACTIVE_LOW, GPIO_V2_LINE_FLAG_INPUT, GPIO_V2_LINE_FLAG_OUTPUT,
    GPIO_V2_LINE_FLAG_EDGE_RISING, GPIO_V2_LINE_FLAG_EDGE_FALLING, GPIO_V2_LINE_FLAG_OPEN_DRAIN,
    GPIO_V2_LINE_FLAG_OPEN_SOURCE, GPIO_V2_LINE_FLAG_BIAS_PULL_UP, GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN,
    GPIO_V2_LINE_FLAG_BIAS_DISABLED,
  };
  show("flags", flags, sizeof flags);
  struct gpio_v2_line_request request;
  memset(&request, 0, sizeof request);
  request.offsets[0] = 17;
  strcpy(request.consumer, "medulla:led");
  request.num_lines = 1;
  request.event_buffer_size = 1024;
  request.fd = -2;
  request.config.flags = GPIO_V2_LINE_FLAG_OUTPUT | GPIO_V2_LINE_FLAG_OPEN_DRAIN;
  request.config.num_attrs = 2;
  request.config.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
  request.config.attrs[0].attr.values = 1;
  request.config.attrs[0].mask = 1;
  request.config.attrs[1].attr.id = GPIO_V2_LINE_ATTR_ID_DEBOUNCE;
  request.config.attrs[1].attr.debounce_period_us = 5000;
  request.config.attrs[1].mask = 1;
  show("request", &request, sizeof request);
  struct gpiochip_info chip;
  memset(&chip, 0, sizeof chip);
  strcpy(chip.name, "gpiochip0");
  strcpy(chip.label, "pinctrl-bcm2711");
  chip.lines = 58;
  show("chipInfo", &chip, sizeof chip);
  struct gpio_v2_line_info info;
  memset(&info, 0, sizeof info);
  info.offset = 17;
  show("asked", &info, sizeof info);
  strcpy(info.name, "GPIO17");
  memset(info.consumer, 'x', sizeof info.consumer);
  info.flags = GPIO_V2_LINE_FLAG_USED | GPIO_V2_LINE_FLAG_OUTPUT;
  show("lineInfo", &info, sizeof info);
  struct gpio_v2_line_event event;
  memset(&event, 0, sizeof event);
  event.timestamp_ns = 0x123456789abcdefULL;
  event.id = GPIO_V2_LINE_EVENT_RISING_EDGE;
  event.offset = 27;
  event.seqno = 9;
  event.line_seqno = 7;
  show("event", &event, sizeof event);
  struct gpio_v2_line_values values = { .bits = 1, .mask = 1 };
  show("values", &values, sizeof values);
  return 0;
}
`

function header(): Map<string, string> {
  const source = join(folder.path, 'gpio.c')
  const program = join(folder.path, 'gpio')
  writeFileSync(source, PROGRAM)
  const made = spawnSync('gcc', ['-Wall', '-Werror', '-o', program, source], { encoding: 'utf8' })
  expect(made.stderr).toBe('')
  const lines = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n')
  return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string | undefined): Uint8Array => new Uint8Array(Buffer.from(text ?? '', 'hex'))

test('the ioctl numbers are those of the kernel', () => {
  expect(GPIO_GET_CHIPINFO_IOCTL).toBe(0x8044b401)
  expect(GPIO_V2_GET_LINEINFO_IOCTL).toBe(0xc100b405)
  expect(GPIO_V2_GET_LINE_IOCTL).toBe(0xc250b407)
  expect(GPIO_V2_LINE_GET_VALUES_IOCTL).toBe(0xc010b40e)
  expect(GPIO_V2_LINE_SET_VALUES_IOCTL).toBe(0xc010b40f)
})

test('a consumer name that is too long is cut, and settings that are off are not encoded', () => {
  const bytes = encodeLineRequest({ offset: 1, consumer: 'x'.repeat(60), flags: LINE_FLAG.input, debounceUs: 0 })
  expect(bytes).toHaveLength(LINE_REQUEST_SIZE)
  expect(bytes.subarray(256, 288)).toEqual(Uint8Array.from([...Array(31).fill(0x78), 0]))
  expect(new DataView(bytes.buffer).getUint32(296, true)).toBe(0)
})

test.runIf(canCompile)('every structure is byte for byte that of the kernel header', () => {
  const said = header()
  expect(said.get('chip')).toBe(GPIO_GET_CHIPINFO_IOCTL.toString(16))
  expect(said.get('line')).toBe(GPIO_V2_GET_LINE_IOCTL.toString(16))
  expect(said.get('info')).toBe(GPIO_V2_GET_LINEINFO_IOCTL.toString(16))
  expect(said.get('get')).toBe(GPIO_V2_LINE_GET_VALUES_IOCTL.toString(16))
  expect(said.get('set')).toBe(GPIO_V2_LINE_SET_VALUES_IOCTL.toString(16))
  const flags = new BigUint64Array(Object.values(LINE_FLAG))
  expect(said.get('flags')).toBe(hex(new Uint8Array(flags.buffer)))

  const request = encodeLineRequest({
    offset: 17,
    consumer: 'medulla:led',
    flags: LINE_FLAG.output | LINE_FLAG.openDrain,
    initial: 1,
    debounceUs: 5000,
    events: 1024,
  })
  const filled = bytesOf(said.get('request'))
  expect(requestedFd(filled)).toBe(-2)
  // the kernel writes this field
  filled.fill(0, 588, 592)
  expect(hex(request)).toBe(hex(filled))

  expect(bytesOf(said.get('chipInfo'))).toHaveLength(CHIP_INFO_SIZE)
  expect(decodeChipInfo(bytesOf(said.get('chipInfo')))).toEqual({
    name: 'gpiochip0',
    label: 'pinctrl-bcm2711',
    lines: 58,
  })
  expect(said.get('asked')).toBe(hex(lineInfoOf(17)))
  expect(bytesOf(said.get('lineInfo'))).toHaveLength(LINE_INFO_SIZE)
  // a field without a terminating zero is read completely
  expect(decodeLineInfo(bytesOf(said.get('lineInfo')))).toEqual({
    name: 'GPIO17',
    consumer: 'x'.repeat(32),
    flags: LINE_FLAG.used | LINE_FLAG.output,
  })
  const event = bytesOf(said.get('event'))
  expect(event).toHaveLength(LINE_EVENT_SIZE)
  expect(decodeLineEvent(event, 0)).toEqual({ level: 1, ns: 0x123456789abcdefn, lineSeqno: 7 })
  expect(said.get('values')).toBe(hex(lineValues(1)))
})
