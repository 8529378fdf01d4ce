import { expect, test } from 'vitest';
import { cardsOf } from '../../../providers/kvm/guest.ts';

const card = (network: string, number: number) => ({
  network,
  address: `10.0.${number}.2`,
  mac: `02:00:00:00:00:0${number}`,
  device: `eth${number}`,
});
const networks = {
  inner: { gateway: '10.0.0.1', prefix: 24, mode: 'isolated' },
  outer: { gateway: '10.0.1.1', prefix: 22, mode: 'nat' },
  other: { gateway: '10.0.2.1', prefix: 24, mode: 'nat' },
};

test('the cards of a machine have their addresses, and the first one with a way out has its gateway', () => {
  const cards = cardsOf([card('inner', 0), card('outer', 1), card('other', 2)], networks);
  expect(cards.map(({ device, address, prefix, gateway }) => [device, address, prefix, gateway])).toEqual([
    ['eth0', '10.0.0.2', 24, undefined],
    ['eth1', '10.0.1.2', 22, '10.0.1.1'],
    ['eth2', '10.0.2.2', 24, undefined],
  ]);
  expect(cardsOf([card('inner', 0)], networks)[0]).not.toHaveProperty('gateway');
});
