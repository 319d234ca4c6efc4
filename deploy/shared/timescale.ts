/** MEDULLA_TIME_SCALE stretches every stated time on slow machines: 1 or absent is none (HANDOVER 10.2). */
export const timeScale = (): number => Number(process.env.MEDULLA_TIME_SCALE) || 1
