/** Maps the model name in a Raspberry Pi's device tree to the `model` of its board file. */
import type { Model } from '../../drivers/board/models.ts'

type PiModel = Extract<Model, 'pi3' | 'pi4' | 'pi5' | 'zero2w'>

/** /proc/device-tree/model of the supported boards; the 400 and the 500 are a Pi 4 and a Pi 5 in a keyboard. */
const NAMES: readonly [RegExp, PiModel][] = [
  [/^Raspberry Pi Zero 2\b/, 'zero2w'],
  [/^Raspberry Pi (?:3|Compute Module 3)\b/, 'pi3'],
  [/^Raspberry Pi (?:4|400|Compute Module 4)\b/, 'pi4'],
  [/^Raspberry Pi (?:5|500|Compute Module 5)\b/, 'pi5'],
]

/** Device name of the PWM block that reaches the header; its pwmchip number differs from kernel to kernel. */
export const HEADER_PWM: Partial<Record<Model, string>> = {
  pi3: '3f20c000.pwm',
  zero2w: '3f20c000.pwm',
  pi4: 'fe20c000.pwm',
  pi5: '1f00098000.pwm',
}

export function modelOf(name: string | null): PiModel | null {
  return name === null ? null : (NAMES.find(([pattern]) => pattern.test(name))?.[1] ?? null)
}

export function isPi(name: string | null): boolean {
  return name?.startsWith('Raspberry Pi') === true
}
