import { waves } from './waves.js';

const typeOf = (item: string) => item.charAt(0);
const sequences = [['a1', 'a2', 'b3', 'a4'], ['b1', 'a2'], []];

it('takes at most one item of each sequence at a time, by type', () => {
  expect([...waves(sequences, typeOf)]).toEqual([
    ['a', ['a1']],
    ['b', ['b1']],
    ['a', ['a2', 'a2']],
    ['b', ['b3']],
    ['a', ['a4']],
  ]);
});

it('takes those of a type that may repeat as long as they follow each other', () => {
  expect([...waves(sequences, typeOf, (type) => type === 'a')]).toEqual([
    ['a', ['a1', 'a2']],
    ['b', ['b1']],
    ['b', ['b3']],
    ['a', ['a2']],
    ['a', ['a4']],
  ]);
});
