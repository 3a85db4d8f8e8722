"""Word lists that the task generators draw from."""


def _split(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


WORDS = _split("""
anchor apple arrow autumn bag ball banana basket beach bear bell berry bicycle bird blanket boat book bottle bowl box
branch bread brick bridge brush bucket butter button cabin cake camel camera candle canoe carpet castle cat cave chain
chair cheese cherry circle city clock cloud coat coffee coin copper corner cotton cow crab cream crown cup curtain
daisy dance deer desert desk diamond doctor dog door dragon dream drum duck eagle earth echo egg elephant engine
evening eye falcon family farm feather fence field finger fire fish flag flame flower flute forest fork fox frog fruit
garden garlic gate giant ginger glass globe glove goat gold grape grass guitar hammer harbor hat hawk heart hill honey
horse hotel house ice igloo ink iron island ivory jacket jaguar jar jelly jewel judge juice jungle kettle key king kite
kitten knife knot ladder lake lamp leaf lemon letter lily lion lizard lock log magnet mango map maple market mask
meadow melon milk mirror monkey moon morning mountain mouse museum nail napkin needle nest night north notebook nurse
oak ocean olive onion orange otter oven owl paint palace panda paper parrot peach pear pebble pencil penguin piano
pigeon pillow pilot pine planet plate plum pocket pony potato prince pumpkin puzzle queen quilt rabbit radio rain
raven ribbon rice ring river road robin rocket roof rope rose ruby sail salt sand scarf school seed shadow sheep shell
ship shoe silk silver sister sky snow soap sock song soup spider spoon star stone storm sugar summer sun swan table
teacher tent thunder ticket tiger tomato tower town train tree trumpet tulip turtle umbrella uncle valley vase violin
wagon wall water wave whale wheat wheel whistle window winter wizard wolf wood yacht yard yarn year zebra
""")

# Sorting and spelling need knowledge of each word, not only copying: they draw from these.
KNOWN = WORDS[::3]

SYLLABLES = _split("""
ba be bo da di do fa fi ga go ka ki ko la le lo ma mi mo na ne no pa po ra ri ro sa si so ta ti to va vi zo
""")

SENTENCE_WORDS = _split("""
the a my our one red blue green old new small big happy quiet quick warm cold bright soft tall dog cat bird fox child
teacher farmer friend sister queen pilot runs walks sings sleeps waits jumps reads paints finds likes sees carries holds
near under over behind beside with in on by today slowly again often home river garden house window bridge forest lamp
""")

VERBS = _split("""
get make find compute build check update read load fetch collect handle create process select
""")
NOUNS = _split("""
total price score value item name count result list data user order number word text amount level point record size
""")
PARAMS = _split("""
a b x y n m left right first second width height price rate speed time base offset cost tax weight length
""")
LIST_PARAMS = _split("items values numbers scores prices words names records data points")

CLASSES = _split("""
Car Book Student Dog House Account Player Robot Movie Song Phone City Animal Order Product Employee Ticket Garden Ship
Recipe Planet Camera Teacher Team Plant Message Point Bottle Computer Train
""")
ATTRIBUTES = _split("""
name age color price size title author speed weight height owner balance score level model brand year address email
length width rating country city stock status genre power language team
""")


def pseudo_word(rng) -> str:
    """An invented word of two or three syllables, so that copying does not depend on known words."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def any_word(rng) -> str:
    """A listed word, now and then an invented one."""
    return pseudo_word(rng) if rng.random() < 0.08 else rng.choice(WORDS)
