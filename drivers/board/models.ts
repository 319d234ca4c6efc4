/** The GPIO chip and the PWM channels of each board model. Constants, so that a laptop can check a board file too. */

export const MODELS = ['sim', 'pi3', 'pi4', 'pi5', 'zero2w', 'linux'] as const
export type Model = (typeof MODELS)[number]

export interface PwmChannel {
  /** pwmchipN */
  chip: number
  /** pwmM of that chip */
  channel: number
}

/** Labels of the chips with the lines of the header (drivers/pinctrl/bcm/pinctrl-bcm2835.c, pinctrl-rp1.c). */
const CHIPS: Partial<Record<Model, string>> = {
  pi3: 'pinctrl-bcm2835',
  zero2w: 'pinctrl-bcm2835',
  pi4: 'pinctrl-bcm2711',
  pi5: 'pinctrl-rp1',
}

/** "BCM2835 ARM Peripherals", table 6-31, and the same lines of the BCM2711: two channels, each on two lines. */
const BCM_PWM: Record<string, PwmChannel> = {
  GPIO12: { chip: 0, channel: 0 },
  GPIO13: { chip: 0, channel: 1 },
  GPIO18: { chip: 0, channel: 0 },
  GPIO19: { chip: 0, channel: 1 },
}
/** "RP1 Peripherals", table 4: four channels of PWM0. */
const RP1_PWM: Record<string, PwmChannel> = {
  GPIO12: { chip: 0, channel: 0 },
  GPIO13: { chip: 0, channel: 1 },
  GPIO18: { chip: 0, channel: 2 },
  GPIO19: { chip: 0, channel: 3 },
}
const PWMS: Partial<Record<Model, Record<string, PwmChannel>>> = {
  pi3: BCM_PWM,
  zero2w: BCM_PWM,
  pi4: BCM_PWM,
  pi5: RP1_PWM,
}

/** Label of the GPIO chip; undefined when the model does not determine it. */
export function gpioChipOf(model: Model): string | undefined {
  return CHIPS[model]
}

/** Lines with hardware PWM; empty when the model does not determine them. */
export function pwmLines(model: Model): string[] {
  return Object.keys(PWMS[model] ?? {})
}

/** The PWM channel of a line, provided that the overlay which routes the channel to the line is loaded. */
export function pwmChannelOf(model: Model, line: string): PwmChannel | undefined {
  return PWMS[model]?.[line]
}

/** pigpio writes hardware registers directly, and knows only the BCM283x and the BCM2711. */
export function hasPigpio(model: Model): boolean {
  return PWMS[model] === BCM_PWM
}
