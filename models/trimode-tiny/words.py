"""Word lists that the task generators draw from."""


def _split(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# Few enough that the model learns the letters and the alphabetical order of each.
WORDS = _split("""
anchor basket blanket bread cabin castle circle copper cup diamond duck evening field flute garlic goat hat house
jacket jungle knot lily map mirror nail nurse oven peach pillow pony rabbit river ruby shadow sister spider sun tiger
tulip wagon whistle yard
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
