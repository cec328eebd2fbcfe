package demo

import (
	"fmt"
	"hash/fnv"
)

// Product is one article of the shop. Its id is the item id of the data set.
type Product struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Brand    string  `json:"brand"`
	Category string  `json:"category"`
	Price    float64 `json:"price"` // in Currency
	Currency string  `json:"currency"`
}

const currency = "EUR"

// shelf is a category and the words of which its products' names are made: one of
// first, then one of second.
type shelf struct {
	name          string
	first, second []string
	brands        []string
	low, high     uint64 // whole euros
}

var shelves = []shelf{
	{
		"Novels",
		[]string{
			"The Salt", "A Winter", "The Quiet", "The Orchard", "Nine Days of", "The Glass", "Letters from the", "The Last",
			"Beneath the", "The Borrowed", "A Map of the", "The Cartographer's",
		},
		[]string{"Road", "Harbour", "House", "Year", "Daughter", "Garden", "River", "Hours", "Lighthouse", "Season", "Inheritance", "Field"},
		[]string{"Ines Maarten", "Tobias Wren", "Hana Okuda", "Lucía Ferrer", "Piotr Zawada", "Maud Ellery", "Samir Okafor", "Greta Lindqvist", "Anton Bauer", "Noor Visser"},
		9, 24,
	},
	{
		"Cookbooks",
		[]string{
			"Slow", "Weeknight", "The Green", "One-Pan", "Bread and", "The Little", "Northern", "Coastal", "Sunday", "The Fermented",
			"Everyday", "Wood-Fired",
		},
		[]string{"Suppers", "Kitchen", "Table", "Baking", "Broths", "Harvest", "Pickles", "Breakfasts", "Feasts", "Pantry", "Desserts", "Grains"},
		[]string{"Clara Voss", "Matteo Riva", "Nadia Haddad", "Joost de Wit", "Aoife Brennan", "Yuki Tanabe", "Paul Deschamps", "Ilse Grün"},
		18, 42,
	},
	{
		"Tableware",
		[]string{
			"Stoneware", "Speckled", "Ash-Glazed", "Enamel", "Hand-Thrown", "Oak", "Smoked Glass", "Linen-White", "Rust", "Celadon",
			"Fluted", "Two-Tone",
		},
		[]string{"Mug", "Dinner Plate", "Serving Bowl", "Carafe", "Espresso Cup", "Platter", "Teapot", "Tumbler", "Pitcher", "Soup Bowl", "Side Plate", "Vase"},
		[]string{"Kiln & Co", "Holm", "Atelier Noord", "Brook Pottery"},
		8, 58,
	},
	{
		"Lighting",
		[]string{"Arc", "Paper", "Opal", "Brass", "Mushroom", "Folded", "Pebble", "Terracotta", "Rattan", "Dome", "Studio", "Harbour"},
		[]string{"Table Lamp", "Pendant", "Floor Lamp", "Lantern", "Ceiling Lamp", "Desk Lamp", "Candle Lantern", "Arm Lamp", "Reading Lamp", "Hanging Lamp", "Bedside Lamp", "Storm Lantern"},
		[]string{"Lumen Works", "Holm", "Fjell", "Paper Moon"},
		19, 149,
	},
	{
		"Textiles",
		[]string{"Washed Linen", "Merino", "Waffle", "Woven", "Quilted", "Herringbone", "Organic Cotton", "Tufted", "Bouclé", "Striped", "Indigo", "Mohair"},
		[]string{"Throw", "Blanket", "Tea Towel", "Bath Sheet", "Runner", "Plaid", "Bedspread", "Shawl", "Coverlet", "Beach Towel", "Rug", "Stole"},
		[]string{"Loom House", "Fjell", "Sable & Thread", "Marais"},
		12, 119,
	},
	{
		"Garden",
		[]string{"Copper", "Coastal", "Terracotta", "Heritage", "Wildflower", "Cedar", "Hand-Forged", "Climbing", "Alpine", "Rooftop", "Kitchen", "Pollinator"},
		[]string{"Aloe", "Trowel", "Planter", "Agave", "Bromeliad", "Seedling", "Hand Scoop", "Fern", "Pot Plant", "Weeder", "Succulent", "Dibber"},
		[]string{"Furrow & Spade", "Moss", "Old Wall Nursery"},
		6, 79,
	},
	{
		"Stationery",
		[]string{"Dotted", "Cloth-Bound", "Pocket", "Marbled", "Recycled", "Letterpress", "Brass", "Weekly", "Kraft", "Cotton Rag", "Indexed", "Carbon"},
		[]string{"Notebook", "Fountain Pen", "Planner", "Card Set", "Journal", "Sketchbook", "Rollerball", "Letter Set", "Envelopes", "Diary", "Logbook", "Drawing Pen"},
		[]string{"Folio", "Paper Moon", "Nib & Sons", "Quire"},
		4, 49,
	},
	{
		"Games",
		[]string{"Harbour", "Fox and", "Twelve", "The Lost", "Midnight", "Little", "Mountain", "Garden", "Paper", "Pocket", "Northern", "Market"},
		[]string{"Puzzle", "Dominoes", "Kingdoms", "Explorers", "Dice", "Chess", "Memory", "Marbles", "Quest", "Cards", "Builders", "Riddles"},
		[]string{"Rookery", "Tabletop Union", "Oak & Pawn"},
		9, 64,
	},
}

// catalogue makes the products: the most clicked items, most clicked first.
func catalogue(sessions []session, n int) []Product {
	items := popular(sessions, n)
	on := group(items, sessions, len(shelves))
	taken := map[string]bool{}
	products := make([]Product, len(items))
	for i, id := range items {
		s := shelves[on[i]]
		h := hash(id)
		name := title(s, h, taken)
		cents := (s.low+h>>20%(s.high-s.low+1))*100 - 5
		if h>>40&3 == 0 {
			cents -= 45
		}
		products[i] = Product{
			ID:       id,
			Name:     name,
			Brand:    s.brands[h>>50%uint64(len(s.brands))],
			Category: s.name,
			Price:    float64(cents) / 100,
			Currency: currency,
		}
	}
	return products
}

// title finds a name that is free, starting where the hash points.
func title(s shelf, h uint64, taken map[string]bool) string {
	all := uint64(len(s.first) * len(s.second))
	var name string
	for k := range all {
		at := (h + k*7) % all // 7 and 144 share no factor: every name is tried
		name = s.first[at/uint64(len(s.second))] + " " + s.second[at%uint64(len(s.second))]
		if !taken[name] {
			taken[name] = true
			return name
		}
	}
	for edition := 2; ; edition++ {
		numbered := fmt.Sprintf("%s No. %d", name, edition)
		if !taken[numbered] {
			taken[numbered] = true
			return numbered
		}
	}
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	x := h.Sum64()
	// FNV leaves the high bits of short texts nearly alike.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}
